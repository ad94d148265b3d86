"""Sequence encoders: their inputs are embeddings and masks, never ids, losses or methods."""
