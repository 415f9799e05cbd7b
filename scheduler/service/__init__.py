"""The daemon: its loop, the schedule kept equal to the bots' rows, the lease that says who may act."""
