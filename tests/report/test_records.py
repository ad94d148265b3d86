"""Rows of committed results: what they say, what they are compared with, and what is refused."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from seqrec.evidence.rows import finished, gain_rows, merge, perturbed_rows, read, run_row, training_row

from seqrec.utils.errors import UserError


def test_rows_say_what_the_run_directories_say(found):
    assert sorted((run.command.split()[0], run.seed) for run in found) == [
        ("backbone.layers=1", 1),
        ("backbone.layers=1", 2),
        ("method=cat", 2),
    ]
    for done in found:
        row = run_row(done)
        metrics = json.loads((done.run.path / "metrics.json").read_text())
        assert row["test NDCG@10"] == pytest.approx(metrics["test"]["NDCG@10"], abs=1e-6)
        assert row["valid HR@5"] == pytest.approx(metrics["valid"]["HR@5"], abs=1e-6)
        assert (row["width"], row["epochs"], row["noise"]) == (8, 1, "none")
        assert row["parameters"] == done.run.manifest["parameters"]


def test_what_was_logged_is_that_of_the_best_epoch(found, tmp_path):
    done = replace(found[0], run=replace(found[0].run, path=tmp_path), metrics={"best_epoch": 2})
    logged = ({"epoch": e, "train/loss": e + 0.123456, "lr/model": 1, "valid/MRR": 0.5} for e in (1, 2, 3))
    (tmp_path / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in logged))
    assert training_row(done) == {"command": done.command, "seed": done.seed, "epoch": 2, "train/loss": 2.12346}


def test_a_stage_1_is_named_by_its_place_in_the_output_folder(found, runs):
    (cat,) = [run for run in found if "cat" in run.command]
    (argument,) = [part for part in cat.command.split() if part.startswith("method.stage1=")]
    assert re.fullmatch(r"method\.stage1=outputs/synthetic/none/sasrec-plain/seed2-\w{8}", argument)
    assert str(runs) not in cat.command


def test_gains_are_those_of_a_loop_over_users_and_draws(found):
    plain = next(run.command for run in found if "cat" not in run.command)
    cat = next(run.command for run in found if "cat" in run.command)
    rows = {row["metric"]: row for row in gain_rows(found, cat, plain)}
    assert set(rows) == {"HR@10", "NDCG@10"}
    one, other = (next(run for run in found if (run.command, run.seed) == (name, 2)) for name in (cat, plain))
    values = []
    for done in (one, other):
        ranks = np.load(done.run.path / "ranks_test.npz")
        # no ties among these scores
        values.append(
            {u: 1 / np.log2(r + 1) if r <= 10 else 0.0 for u, r in zip(ranks["user"], ranks["rank"], strict=True)}
        )
    users = sorted(values[0])
    mean = [np.mean([part[user] for user in users]) for part in values]
    row = rows["NDCG@10"]
    assert row["gain"] == pytest.approx(mean[0] / mean[1] - 1, abs=1e-6)
    generator, gains = np.random.default_rng(5), []
    for _ in range(400):
        drawn = generator.choice(users, len(users))
        sums = [sum(part[user] for user in drawn) for part in values]
        gains.append(sums[0] / sums[1] - 1)
    assert [row["low"], row["high"]] == pytest.approx(
        np.quantile(gains, [0.025, 0.975]), abs=0.25 * (row["high"] - row["low"])
    )
    assert (row["seeds"], row["users"]) == ("2", len(users))
    assert gain_rows(found, cat, "dataset=elsewhere") == []


def test_rows_are_merged_by_their_keys(tmp_path):
    path = tmp_path / "rows.csv"
    assert merge(path, [{"a": "y", "b": 1}, {"a": "x", "b": 2}], ("a",)) == 2
    assert merge(path, [{"a": "y", "b": 1}], ("a",)) == 0
    assert merge(path, [{"a": "y", "b": 3, "c": None}], ("a",)) == 1
    assert path.read_text() == "a,b,c\nx,2,\ny,3,\n"
    assert merge(path, [{"a": "y", "b": 3}], ("a",)) == 0
    assert merge(path, [{"a": "10", "b": 1}, {"a": "9", "b": 1}], ("a",)) == 2
    assert [row["a"] for row in read(path)] == ["x", "y", "9", "10"]
    assert merge(path, [{"a": "z", "b": 2}], ("a", "b"), owner=("b",)) == 1
    assert [(row["a"], row["b"]) for row in read(path)] == [("y", "3"), ("z", "2"), ("9", "1"), ("10", "1")]


def test_runs_that_cannot_be_told_apart_or_compared_are_errors(found, runs, tmp_path, composed):
    plain = next(done for done in found if "cat" not in done.command)
    shutil.copytree(plain.run.path, tmp_path / "copy")
    with pytest.raises(UserError, match=r"seed1-.* and .*copy are runs of the same command and seed"):
        finished([runs, tmp_path], composed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no finished run at or below"):
        finished([tmp_path / "empty"], composed)
    (tmp_path / "copy" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"copy: 'test'; leave it out or mend it"):
        finished([tmp_path], composed)
    cat = next(done for done in found if "cat" in done.command)
    other = replace(cat, run=replace(cat.run, protocol={**cat.run.protocol, "ties": "pessimistic"}))
    base = [done for done in found if "cat" not in done.command]
    with pytest.raises(UserError, match="were evaluated on other data or by other rules"):
        gain_rows([*base, other], cat.command, base[0].command)


def test_a_grid_on_the_validation_part_is_not_recorded(found, tmp_path, write_grid):
    write_grid(tmp_path, [], part="valid")
    with pytest.raises(UserError, match="--part valid; only the test part"):
        perturbed_rows(replace(found[0], run=replace(found[0].run, path=tmp_path)))
