"""Sequence encoders: they know embeddings and masks, but no ids, losses or methods."""
