"""Shared ground: errors, files, checkpoints, keyed random numbers, gradients."""
