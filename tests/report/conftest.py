"""Fabricated run directories."""

import copy
import json
import shutil

import numpy as np
import pytest
import yaml
from job_setting import configure

from seqrec.commands import train as entry
from seqrec.config import run_path
from seqrec.evaluation.metrics import summarise

USERS, ITEMS, CUTOFFS = 40, 50, [5, 10]
CONFIG = {
    "dataset": {"_target_": "seqrec.data.source.FileDataset", "name": "made", "reader": "sequence", "file": "made.txt"},
    "split": {"name": "leave_one_out", "_target_": "seqrec.data.split.LeaveOneOut"},
    "noise": {"name": "none"},
    "backbone": {"name": "sasrec", "layers": 2},
    "loss": {"name": "cross_entropy", "chunk": 128},
    "method": {"name": "plain"},
    "eval": {"name": "full", "cutoffs": CUTOFFS, "mask_history": True, "ties": "expected"},
    "trainer": {"prefixes": False, "max_epochs": 3, "threads": 1, "optimizer": {"lr": 0.001}},
    **{"variant": None, "seed": 1, "dim": 64, "max_len": 50, "data_dir": "nowhere", "cache_dir": None},
    "output_dir": "outputs",
}


def writer(root):
    """Function that writes a run directory below `root` and returns it.

    `changes` are dotted keys of the configuration; `level` moves all ranks down, so lower is better.
    """

    def write(name, changes=None, *, level=8.0, untrained=False, better=None, equal=None, targets=None, history=None):
        config = copy.deepcopy(CONFIG)
        if untrained:
            config["backbone"], config["loss"] = {"name": "none"}, {"name": "none"}
        for key, value in (changes or {}).items():
            *groups, last = key.split(".")
            node = config
            for group in groups:
                node = node[group]
            node[last] = value
        user, target = targets or (np.arange(USERS), np.arange(USERS) % ITEMS + 1)
        if better is None:
            generator = np.random.default_rng([config["seed"], int(level * 10)])
            better = generator.poisson(level, len(user))
        equal = np.ones(len(user), np.int64) if equal is None else equal
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        evaluation = config["eval"]
        test = summarise(better, equal, evaluation["cutoffs"], evaluation["ties"])
        (folder / "metrics.json").write_text(json.dumps({"valid": test, "test": test, "best_epoch": 0}))
        np.savez_compressed(folder / "ranks_test.npz", user=user, target=target, better=better, equal=equal)
        epochs = 0 if untrained else 3
        protocol = {key: evaluation[key] for key in ("cutoffs", "mask_history", "ties")}
        manifest = {
            "config_hash": "0" * 8,
            "data_sha256": "0" * 64,
            "data": {"users": USERS, "items": ITEMS, "interactions": 999},
            "warnings": [],
            "protocol": {**protocol, "split": config["split"]["name"], "prefixes": config["trainer"]["prefixes"]},
            "test_questions": len(user),
            "epochs": epochs,
            "noise": {"noise_sha256": json.dumps(config["noise"])},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if not untrained:
            logged = history or [{"epoch": e, "train/loss": 5.0, "valid/NDCG@10": e / 10} for e in range(1, epochs + 1)]
            (folder / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in logged))
        (folder / "DONE").touch()
        return folder

    return write


@pytest.fixture
def write_run(tmp_path):
    """Function that writes a run directory below tmp_path/runs and returns it; see `writer`."""
    return writer(tmp_path / "runs")


@pytest.fixture
def change_manifest():
    """Function that changes top-level entries of a run's manifest."""

    def change(folder, **entries):
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def write_grid(write):
    """Write three methods under insert noise at .2 and .4, two seeds; popularity never moves. Returns the folder."""
    for seed in (1, 2):
        for ratio in (0, 0.2, 0.4):
            noise = {"name": "insert", "ratio": ratio, "seed": seed} if ratio else {"name": "none"}
            for method, start, fall in (("plain", 6.0, 12.0), ("cat", 5.0, 4.0), ("popularity", 15.0, 0.0)):
                untrained = method == "popularity"
                history = None
                if method == "cat":
                    history = [
                        {"epoch": e, "train/loss": 1.0, "train/weight_newest": e / 7, "valid/NDCG@10": e / 9}
                        for e in (1, 2, 3)
                    ]
                last = write(
                    f"{method}-{ratio}-{seed}",
                    {"method.name": method, "seed": seed, "noise": noise},
                    level=start + fall * ratio,
                    untrained=untrained,
                    better=np.arange(USERS) // 2 if untrained else None,
                    history=history,
                )
                if method == "cat":
                    places = np.where(np.arange(30) < 25, seed + ratio, np.nan)
                    matrix = np.full((30, 30), np.nan)
                    matrix[:25, :25] = np.eye(25) * 0.5 + np.eye(25, k=1) * ratio / seed
                    np.savez(last / "position_profile.npz", weight=places, matrix=matrix)
    return last.parent


@pytest.fixture
def grid_of_runs(write_run):
    """The folder of the runs of `write_grid`."""
    return write_grid(write_run)


@pytest.fixture(scope="module")
def shared_grid(tmp_path_factory):
    """The same, written once for a file of tests; an incomplete run is among them."""
    write = writer(tmp_path_factory.mktemp("shared") / "runs")
    (write("broken <b>&", {"seed": 7}) / "DONE").unlink()
    return write_grid(write)


SMALL = (
    *("dataset.users=120", "dataset.items=110", "dataset.clusters=6", "dim=8", "trainer.max_epochs=1"),
    *("backbone.layers=1", "trainer.threads=1", "trainer.progress=false"),
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of small finished runs: plain and CAT on a stage 1, two seeds, one of them perturbed."""
    folder = tmp_path_factory.mktemp("outputs")

    def train(*overrides):
        config = configure(*overrides, *SMALL, f"output_dir={folder}")
        path = folder / run_path(config)
        entry.job(config, path)
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | {"overrides": [*overrides, f"output_dir={folder}"]}))
        return path

    for seed in (1, 2):
        stage1 = train(f"seed={seed}", "noise=insert", "noise.ratio=0")
    train("seed=2", "method=cat", f"method.stage1={stage1}", "method.stage2_epochs=1")
    broken = folder / "broken"
    shutil.copytree(stage1, broken)
    (broken / "DONE").unlink()
    facts = {"part": "test", "cutoff": 10, "seed": 0, "source": "uniform", "power": 1.0, "where": "anywhere"}
    facts |= {"last": 1, "window": None}
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
    (stage1 / "robustness.json").write_text(json.dumps({**facts, "cells": cells}))
    (stage1 / "noise_detection.csv").write_text("dropped by,AUC\nautosam,.6\nchance,.5\n")
    return folder
