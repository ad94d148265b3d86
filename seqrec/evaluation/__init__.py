"""Evaluation of a trained model: ranks, metrics, perturbed inputs, recommendations."""
