"""Noise: operators on sequences, foreign items, and the corruption of training histories."""

from seqrec.noise.training import TrainingNoise

__all__ = ["TrainingNoise"]
