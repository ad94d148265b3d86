"""The training loop, its schedules and progress."""
