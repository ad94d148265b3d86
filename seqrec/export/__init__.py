"""Finished runs as files for serving: an encoder of histories, the item matrix and an index over it."""
