"""From raw interaction files to batches."""
