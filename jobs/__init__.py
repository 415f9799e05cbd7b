"""What the scheduler fires, and the `jobs` command. Market data and venues stand behind ports."""
