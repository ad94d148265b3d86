"""Robustness methods on top of a backbone, and their baselines."""
