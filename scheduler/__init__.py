"""When: the daemon. APScheduler, its job store, schedules kept equal to the bots table, workers, lease."""
