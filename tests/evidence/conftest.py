"""Small finished runs, one of them perturbed, and configurations."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from seqrec.commands import train as entry
from seqrec.config import run_path
from seqrec.evidence.rows import finished

ROOT = Path(__file__).parents[2]
SMALL = (
    *("dataset.users=120", "dataset.items=110", "dataset.clusters=6", "dim=8", "trainer.max_epochs=1"),
    *("backbone.layers=1", "trainer.threads=1", "trainer.progress=false"),
)


@functools.cache
def _composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.fixture(scope="session")
def composed():
    """Function from overrides to a configuration."""
    return _composed


def _write_grid(folder, cells, part="test"):
    facts = {"part": part, "cutoff": 10, "seed": 0, "source": "uniform", "power": 1.0, "where": "anywhere"}
    facts |= {"last": 1, "window": None}
    (folder / "robustness.json").write_text(json.dumps({**facts, "cells": cells}))


@pytest.fixture
def write_grid():
    """Function that writes a robustness.json with some cells."""
    return _write_grid


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder of small finished runs: plain and CAT on a stage 1, two seeds, one of them perturbed."""
    folder = tmp_path_factory.mktemp("outputs")

    def train(*overrides):
        config = _composed(*overrides, *SMALL, f"output_dir={folder}")
        path = folder / run_path(config)
        entry.job(config, path)
        return path

    for seed in (1, 2):
        stage1 = train(f"seed={seed}", "noise=insert", "noise.ratio=0")
    train("seed=2", "method=cat", f"method.stage1={stage1}", "method.stage2_epochs=1")
    broken = folder / "broken"
    shutil.copytree(stage1, broken)
    (broken / "DONE").unlink()
    cells = [
        {"attack": "clean", "draws": 1, "mean": {"NDCG@10": 0.5, "NDCG@10 drop": 0}, "std": {"NDCG@10": None}},
        {
            "attack": "random",
            "position": "last",
            "k": 1,
            "draws": 5,
            "mean": {"NDCG@10": 0.25, "NDCG@10 drop": 0.5},
            "std": {},
        },
    ]
    _write_grid(stage1, cells)
    (stage1 / "noise_detection.csv").write_text("dropped by,AUC\nautosam,.6\nchance,.5\n")
    return folder


@pytest.fixture(scope="session")
def found(runs):
    """The runs as they are read."""
    return finished([runs], _composed)
