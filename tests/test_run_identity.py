"""Runs keep their directories: hashes that were given out never change, and runs of earlier code are read and resumed."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from job_setting import configure

from seqrec.build import load
from seqrec.commands import train
from seqrec.config import config_hash, digest, run_path
from seqrec.report.write import collect
from seqrec.utils.addresses import FIRST_ADDRESS, current_address
from seqrec.utils.instantiate import locate

ROOT = Path(__file__).parents[1]
EARLIER = Path(__file__).parent / "fixtures" / "runs_before_the_layout"
SMALL = ["dataset.users=80", "dataset.items=60", "dataset.clusters=4", "dataset.max_length=20", "dim=8", "max_len=12"]
SMALL += ["backbone.layers=1", "trainer.max_epochs=4", "trainer.threads=1", "trainer.progress=false"]
RUNS = {
    "synthetic/none/sasrec-plain/seed1-64ce9c4a": [],
    "synthetic/none/sasrec-asarrec/seed1-1873e30b": ["method=asarrec"],
    "synthetic/none/sasrec-cat/seed1-f0b3ae38": ["method=cat", "method.stage2_epochs=3"],
    "synthetic/insert-0.3/sasrec-plain/seed1-e50680cd": ["noise=insert", "noise.ratio=.3"],
}
FIRST_RUNS = {
    "file/none/sasrec-plain/seed4-715a566b": [
        *("dataset=file", "dataset.path=clicks.csv", "dataset.user_column=uid", "dataset.item_column=iid", "seed=4"),
    ],
    "synthetic/none/sasrec-plain/seed1-8e507f06": [],
    "synthetic/none/sasrec-autosam/seed1-aca56893": ["method=autosam"],  # an optimiser of its own, a class that moved
    "beauty/mixed-0.2/gru4rec-coserec/seed2-a442a0ba": [
        *(
            "method=coserec",
            "backbone=gru4rec",
            "loss=bce",
            "noise=mixed",
            "noise.ratio=.2",
            "seed=2",
            "dataset=beauty",
        ),
    ],
}


@pytest.mark.parametrize("directory", FIRST_RUNS)
def test_a_run_directory_that_was_given_out_never_changes(directory):
    assert run_path(configure(*FIRST_RUNS[directory])) == directory


def test_columns_to_keep_by_name_and_by_number_have_a_hash_of_their_own():
    def hashed(keep):
        return config_hash(configure("dataset=file", "dataset.path=x", f"dataset.keep={keep}"))

    assert hashed("{event:[view],2:[1]}") == hashed("{2:[1],event:[view]}")
    different = {hashed(keep) for keep in ("{event:[view],2:[1]}", "{event:[view],2:[2]}", "{event:[view]}", "{2:[1]}")}
    assert len(different) == 4


@pytest.mark.parametrize(
    "values", [{"b": {"d": 1, "c": [{"z": 1, "a": None}]}, "a": 2.5}, {10: "x", 2: {"b": [], "a": True}}]
)
def test_hashes_of_keys_of_one_kind_are_those_of_sorted_json(values):
    assert digest(values) == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


@pytest.mark.parametrize(("now", "first"), FIRST_ADDRESS.items())
def test_a_class_that_moved_is_found_under_both_addresses(now, first):
    assert locate(first) is locate(now)
    assert current_address(first) == now


def test_a_renamed_class_keeps_the_hash_of_its_runs(tmp_path):
    for name in ("seqrec", "conf", "train.py"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for path, old, new in (
        ("seqrec/backbones/gru4rec.py", "class GRU4Rec", "class GatedRecurrent"),
        ("conf/backbone/gru4rec.yaml", "GRU4Rec", "GatedRecurrent"),
        ("seqrec/utils/addresses.py", "FIRST_ADDRESS = {", f"FIRST_ADDRESS = {{{ADDRESSES},"),
    ):
        text = (tmp_path / path).read_text()
        assert old in text
        (tmp_path / path).write_text(text.replace(old, new))
    arguments = ["train.py", *SMALL, "backbone=gru4rec", "dry_run=true", "--cfg", "hydra", "--package", "hydra.run"]
    shown = [
        subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout
        for folder in (ROOT, tmp_path)
    ]
    assert shown[0] == shown[1]


ADDRESSES = '"seqrec.backbones.gru4rec.GatedRecurrent": "seqrec.backbones.gru4rec.GRU4Rec"'


@pytest.mark.parametrize("directory", RUNS)
def test_a_run_of_earlier_code_is_resumed_to_the_same_ranks(directory, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(EARLIER / "half" / directory, folder)
    train.job(configure(*SMALL, *RUNS[directory]), folder)
    finished = EARLIER / "finished" / directory
    now, then = np.load(folder / "ranks_test.npz"), np.load(finished / "ranks_test.npz")
    assert np.array_equal(now["target_id"], then["target_id"])
    # the same bits on the processor that made them; others round differently, and now and then a rank moves by a place
    assert (now["rank"] == then["rank"]).mean() > 0.9


@pytest.mark.parametrize("directory", RUNS)
def test_a_run_of_earlier_code_is_found_complete_and_evaluated_again(directory, tmp_path):
    finished = EARLIER / "finished" / directory
    assert run_path(configure(*SMALL, *RUNS[directory])) == directory
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    train.job(configure(*SMALL, *RUNS[directory]), folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    experiment = load(folder)
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, experiment.fabric.device)
    recorded = json.loads((folder / "metrics.json").read_text())["test"]
    assert experiment.evaluator.metrics(ranks) == pytest.approx(recorded, abs=0.02)


def test_runs_of_earlier_code_are_reported():
    runs, left_out = collect([EARLIER / "finished"], ["NDCG@10"])
    assert (len(runs), left_out) == (len(RUNS), [])
