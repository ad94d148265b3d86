"""A small experiment to be timed."""

SMALL = ["dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1", "max_len=10"]
SMALL += ["trainer.batch_size=32", "trainer.progress=false"]
