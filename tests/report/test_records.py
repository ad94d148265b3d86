"""Rows of committed results: what they hold, what they are compared with, and what is refused."""

import copy
import json
import shutil

import numpy as np
import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.config import apply_variant, config_hash
from seqrec.report.records import (
    command_of,
    detection_rows,
    finished,
    gain_rows,
    merge,
    perturbed_rows,
    run_row,
    training_row,
)
from seqrec.report.tables import read_csv
from seqrec.runs.reader import read_runs, setting_hash, settings_of
from seqrec.utils.errors import UserError


def replace(run, **changes):
    """A run with other values."""
    changed = copy.copy(run)
    vars(changed).update(changes)
    return changed


@pytest.fixture(scope="module")
def found(trained):
    """The runs as they are read."""
    return finished([trained])[0]


def sides(found):
    """The runs of plain and of CAT."""
    return [[run for run in found if run.names["method"] == name] for name in ("plain", "cat")]


def test_a_row_is_known_by_its_hash_and_its_seeds_share_a_setting(found):
    plain, (cat,) = sides(found)
    rows = [run_row(run) for run in plain]
    assert [row["seed"] for row in rows] == [1, 2]
    assert rows[0]["setting"] == rows[1]["setting"] != cat.setting
    for run in found:
        row, metrics = run_row(run), json.loads((run.path / "metrics.json").read_text())
        assert run.path.name == f"seed{row['seed']}-{row['configuration']}"
        assert row["test NDCG@10"] == pytest.approx(metrics["test"]["NDCG@10"], abs=1e-6)
        assert row["valid HR@5"] == pytest.approx(metrics["valid"]["HR@5"], abs=1e-6)
        assert (row["width"], row["epochs"], row["noise"], row["ratio"]) == (8, 1, "none", "0")
        assert (run.trained, run.ratio, run.noise, run.history["valid/NDCG@10"][0][0]) == (True, 0, {}, 1)
        assert run.values["NDCG@10"].mean() == pytest.approx(run.test["NDCG@10"])


def test_a_setting_is_all_but_seed_noise_and_what_changes_no_result():
    def setting(*overrides):
        config = OmegaConf.to_container(apply_variant(configure(*overrides)), resolve=True)
        return setting_hash(settings_of(config, trained=True), "data")

    same = ("seed=3", "noise=insert", "trainer.threads=4", "output_dir=x", "noise=delete seed=7 noise.ratio=.4")
    assert {setting(*overrides.split()) for overrides in same} == {setting()}
    other = ("dim=32", "loss=bce", "trainer.devices=2", "method=cat", "eval.ties=optimistic")
    assert len({setting(*overrides.split()) for overrides in other} | {setting()}) == 6


def test_the_command_is_the_one_that_ran():
    overrides = [
        "dataset=beauty",
        "seed=3",
        "+method.views.short=[crop,mask]",
        "data_dir=/home/me",
        "trainer.threads=1",
    ]
    overrides += ["method.stage1=/home/me/outputs/seed1-0123", "variant=small"]
    shown = "dataset=beauty '+method.views.short=[crop,mask]' method.stage1=.../seed1-0123 variant=small"
    assert command_of({"command": ["train.py", "-m", "seed=1,2"], "overrides": overrides}) == shown
    assert command_of({"command": ["train.py", "-m", "seed=1,2", "loss=bce,bpr"]}) == "loss=bce,bpr"
    assert command_of({"command": ["train.py"], "overrides": None}) == ""


def test_the_command_of_a_run_that_was_trained_to_be_fused_is_its_own(found):
    given = ["dataset=beauty", "fusion=counts", "fusion.features=[newest]"]
    run = replace(found[0], manifest=found[0].manifest | {"overrides": given})
    assert run_row(run)["command"] == "dataset=beauty"
    fused = replace(run, config=copy.deepcopy(run.config))
    fused.config["fusion"] = {"name": "counts", "_target_": "seqrec.fusion.fusion.Fusion"}
    assert run_row(fused)["command"] == "dataset=beauty fusion=counts 'fusion.features=[newest]'"


def test_what_was_logged_is_that_of_the_best_epoch(found):
    logged = {"train/loss": ([1, 2, 3], [1.1, 2.123456, 3]), "valid/MRR": ([2], [0.5]), "train/x": ([3], [1])}
    run = replace(found[0], history=logged, best_epoch=2)
    expected = {"configuration": config_hash(run.config), "epoch": 2, "train/loss": 2.12346}
    assert training_row(run) == expected


def test_gains_are_those_of_a_loop_over_users_and_draws(found):
    plain, (cat,) = sides(found)
    rows = {row["metric"]: row for row in gain_rows(found, cat.setting, plain[0].setting, "", "0")}
    assert set(rows) == {"HR@10", "NDCG@10"}
    values = []
    for run in (cat, plain[1]):
        ranks = np.load(run.path / "ranks_test.npz")
        # no ties among these scores
        values.append(
            {u: 1 / np.log2(r + 1) if r <= 10 else 0.0 for u, r in zip(ranks["user"], ranks["rank"], strict=True)}
        )
    users = sorted(values[0])
    mean = [np.mean([side[user] for user in users]) for side in values]
    row = rows["NDCG@10"]
    assert row["gain"] == pytest.approx(mean[0] / mean[1] - 1, abs=1e-6)
    generator, gains = np.random.default_rng(5), []
    for _ in range(400):
        drawn = generator.choice(users, len(users))
        sums = [sum(side[user] for user in drawn) for side in values]
        gains.append(sums[0] / sums[1] - 1)
    quantiles = np.quantile(gains, [0.025, 0.975])
    assert [row["low"], row["high"]] == pytest.approx(quantiles, abs=0.25 * (row["high"] - row["low"]))
    assert (row["seeds"], row["users"]) == ("2", len(users))
    assert (
        gain_rows(found, cat.setting, "other", "", "0") == gain_rows(found, cat.setting, cat.setting, "x", "0.5") == []
    )


def test_rows_are_merged_by_their_keys(tmp_path):
    path = tmp_path / "rows.csv"
    assert merge(path, [{"a": "y", "b": 1}, {"a": "x", "b": 2}], ("a",)) == 2
    assert merge(path, [{"a": "y", "b": 1}], ("a",)) == 0
    assert merge(path, [{"a": "y", "b": 3, "c": None}], ("a",)) == 1
    assert path.read_text() == "a,b,c\nx,2,\ny,3,\n"
    assert merge(path, [{"a": "y", "b": 3}], ("a",)) == 0
    assert merge(path, [{"a": "10", "b": 1}, {"a": "9", "b": 1}], ("a",)) == 2
    assert read_csv(path).a.tolist() == ["x", "y", "9", "10"]
    assert merge(path, [{"a": "z", "b": 2}], ("a", "b"), owner=("b",)) == 1
    assert read_csv(path)[["a", "b"]].to_numpy().tolist() == [["y", "3"], ["z", "2"], ["9", "1"], ["10", "1"]]


def test_a_file_is_the_same_when_nothing_new_is_recorded(found, tmp_path):
    rows = [run_row(run) for run in found]
    merge(tmp_path / "runs.csv", rows, ("setting", "noise_setting", "ratio", "seed"))
    before = (tmp_path / "runs.csv").read_bytes()
    assert merge(tmp_path / "runs.csv", rows, ("setting", "noise_setting", "ratio", "seed")) == 0
    assert (tmp_path / "runs.csv").read_bytes() == before


def test_noise_with_a_seed_of_its_own_is_left_out(write_run):
    def noisy(seed, noise_seed):
        noise = {"name": "insert", "ratio": 0.2, "seed": noise_seed}
        return write_run(f"seed{seed}-{noise_seed}", {"seed": seed, "noise": noise})

    kept, other = noisy(1, 1), noisy(2, 7)
    runs, left_out = finished([kept.parent])
    assert [run.path for run in runs] == [kept]
    assert [entry.path for entry in left_out] == [other]
    assert "noise.seed=7" in left_out[0].reason


@pytest.mark.parametrize(
    ("name", "rows"), [("robustness.json", perturbed_rows), ("noise_detection.csv", detection_rows)]
)
def test_a_damaged_file_beside_a_run_is_named(name, rows, found, tmp_path):
    run = replace(found[0], path=tmp_path)
    assert rows(run) == []
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=rf"{name} is damaged"):
        rows(run)


def test_repeated_and_damaged_runs_are_left_out(trained, found, tmp_path):
    first = found[0]
    for name in ("copy", "damaged"):
        shutil.copytree(first.path, tmp_path / name)
    (tmp_path / "damaged" / "metrics.json").write_text("{}")
    runs, left_out = finished([trained, tmp_path])
    assert [run.path for run in runs] == [run.path for run in found]
    reasons = {entry.path.name: entry.reason for entry in left_out}
    assert set(reasons) == {"broken", "copy", "damaged"}
    assert str(first.path) in reasons["copy"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no finished run at or below"):
        finished([tmp_path / "empty"])


def test_runs_that_were_evaluated_otherwise_are_not_compared(found):
    plain, (cat,) = sides(found)
    other = replace(cat, protocol={**cat.protocol, "ties": "pessimistic"})
    with pytest.raises(UserError, match="were evaluated on other data or by other rules"):
        gain_rows([*plain, other], cat.setting, plain[0].setting, "", "0")


def test_a_grid_on_the_validation_set_is_not_recorded(found, tmp_path):
    (tmp_path / "robustness.json").write_text(json.dumps({"part": "valid", "cells": []}))
    with pytest.raises(UserError, match="--part valid; only the test set"):
        perturbed_rows(replace(found[0], path=tmp_path))


def test_settings_of_earlier_code_are_those_of_today(trained):
    """A run of code before a class moved is of the same setting as one after it."""
    runs, _ = read_runs([trained], [])
    config = json.loads(json.dumps(runs[0].config))
    config["noise"] = {"name": "insert", "_target_": "seqrec.noise.TrainingNoise", "ratio": 0.1, "seed": 1}
    moved = json.loads(
        json.dumps(config).replace("seqrec.noise.TrainingNoise", "seqrec.data.training_noise.TrainingNoise")
    )
    assert settings_of(config, trained=True) == settings_of(moved, trained=True)
    assert config_hash(config) == config_hash(moved)
