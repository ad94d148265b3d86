"""Robustness methods around a backbone, and the baselines they are measured against."""
