"""Small configurations of whole jobs."""

from pathlib import Path

from hydra import compose, initialize_config_dir

CONF = str(Path(__file__).parents[1] / "conf")
SMALL = ["dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1"]
SHORT = [*SMALL, "trainer.max_epochs=2", "trainer.batch_size=32", "trainer.progress=false"]


def configure(*overrides: str):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("config", list(overrides))
