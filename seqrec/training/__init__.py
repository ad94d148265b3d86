"""The training loop, its schedules, progress and TensorBoard."""
