"""The training loop, its schedules, and what it shows while it runs."""
