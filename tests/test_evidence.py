"""Committed results: the command of a run, rows that are found again, and documents that say what the rows say."""

import functools
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import train as entry
from seqrec.config import decisive, run_path, settle
from seqrec.errors import UserError
from seqrec.evidence import tables
from seqrec.evidence.commands import command_of, normal
from seqrec.evidence.rows import finished, gain_rows, merge, perturbed_rows, read, run_row

ROOT = Path(entry.__file__).parent
SMALL = (
    *("dataset.users=120", "dataset.items=110", "dataset.clusters=6", "dim=8", "trainer.max_epochs=1"),
    *("backbone.layers=1", "trainer.threads=1", "trainer.progress=false"),
)


@functools.cache
def composed(*overrides):
    """Return the configuration that overrides give."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("seed=3", ""),
        ("method=plain trainer.optimizer.lr=2e-3", ""),
        ("dataset=beauty loss=bce", "dataset=beauty loss=bce"),
        ("loss=bce trainer.plateau=2", "loss=bce trainer.plateau=2"),
        ("method=markov method.history_decay=auto", "method=markov method.history_decay=auto"),
        ("noise=insert noise.ratio=0 method=cat", "method=cat"),
        ("seed=2 noise=insert method=cat", "noise=insert method=cat noise.ratio=0.1"),
        ("noise=insert noise.seed=7", "noise=insert noise.ratio=0.1 noise.seed=7"),
        ("trainer.max_epochs=9 dim=32 backbone=gru4rec", "backbone=gru4rec dim=32 trainer.max_epochs=9"),
        ("trainer.threads=1 force=true output_dir=there data_dir=here", ""),
        ("method=cl4srec method.views.short=[crop,mask] trainer.clip=5", None),
        ("experiment=lma4rec/ablation variant=without_ssl", None),
    ],
)
def test_a_command_is_short_and_gives_the_same_configuration(given, expected):
    config = settle(composed(*given.split()))
    command = command_of(config, composed)
    assert expected is None or command == expected
    again = settle(composed(*command.split(), f"seed={config.seed}"))
    if "noise.ratio=0 " not in given:
        assert decisive(again) == decisive(config)


def test_a_key_that_is_no_longer_there_is_an_error():
    config = OmegaConf.create(OmegaConf.to_container(composed(), resolve=False))
    config.trainer.gone = 1
    with pytest.raises(UserError, match=r"trainer\.gone: no such key in today's configuration"):
        command_of(config, composed)
    config = OmegaConf.masked_copy(composed("seed=9"), [key for key in composed() if key != "max_len"])
    with pytest.raises(UserError, match="max_len: no such key in the run's configuration"):
        command_of(config, composed)


def test_commands_are_found_whatever_their_order_and_numbers():
    assert normal("b=.10 a=[1, 2]".replace(", ", ",")) == normal("a=[1,2] b=0.1")
    assert normal("a=true") != normal("a=1")
    assert normal("a=0.1") != normal("a=0.11")


def write_grid(folder, cells, part="test"):
    facts = {"part": part, "cutoff": 10, "seed": 0, "source": "uniform", "where": "anywhere"}
    (folder / "robustness.json").write_text(json.dumps({**facts, "cells": cells}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of small finished runs: plain and CAT on a stage 1, two seeds, one of them perturbed."""
    folder = tmp_path_factory.mktemp("outputs")

    def train(*overrides):
        config = composed(*overrides, *SMALL, f"output_dir={folder}")
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
    write_grid(stage1, cells)
    (stage1 / "noise_detection.csv").write_text("dropped by,AUC\nautosam,.6\nchance,.5\n")
    return folder


@pytest.fixture(scope="module")
def found(runs):
    """The runs as they are read."""
    return finished([runs], composed)


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


def test_runs_that_cannot_be_told_apart_or_compared_are_errors(found, runs, tmp_path):
    plain = next(done for done in found if "cat" not in done.command)
    shutil.copytree(plain.run.path, tmp_path / "copy")
    with pytest.raises(UserError, match=r"seed1-.* and .*copy are runs of the same command and seed"):
        finished([runs, tmp_path], composed)
    (tmp_path / "copy" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"copy: 'test'; leave it out or mend it"):
        finished([tmp_path], composed)
    cat = next(done for done in found if "cat" in done.command)
    other = replace(cat, run=replace(cat.run, protocol={**cat.run.protocol, "ties": "pessimistic"}))
    base = [done for done in found if "cat" not in done.command]
    with pytest.raises(UserError, match="were evaluated on other data or by other rules"):
        gain_rows([*base, other], cat.command, base[0].command)


def test_a_grid_on_the_validation_part_is_not_recorded(found, tmp_path):
    write_grid(tmp_path, [], part="valid")
    with pytest.raises(UserError, match="--part valid; only the test part"):
        perturbed_rows(replace(found[0], run=replace(found[0].run, path=tmp_path)))


def test_no_path_of_the_machine_comes_into_a_command():
    config = composed("dataset=file", "dataset.path=/home/me/clicks.csv")
    with pytest.raises(UserError, match=r"dataset\.path=/home/me/clicks\.csv: neither a path"):
        command_of(config, composed)


def test_a_gain_of_other_seeds_than_its_rows_is_not_shown(tmp_path):
    def write(name, *rows):
        merge(tmp_path / name, rows, ("command", "seed") if name == "runs.csv" else ("command", "against", "metric"))

    gain = {"command": "a=1", "against": "b=1", "metric": "NDCG@10", "seeds": "1", "gain": 0.1, "low": 0, "high": 0.2}
    write("runs.csv", {"command": "a=1", "seed": 1}, {"command": "b=1", "seed": 1})
    write("gains.csv", gain)
    assert tables.gain(tables.Results(tmp_path), "a=1", "b=1", "NDCG@10") == "+10.0 % [+0.0 %, +20.0 %]"
    write("runs.csv", {"command": "a=1", "seed": 2}, {"command": "b=1", "seed": 2})
    assert tables.gain(tables.Results(tmp_path), "a=1", "b=1", "NDCG@10") == "not run"
    write("gains.csv", gain | {"seeds": "1 2"})
    assert tables.gain(tables.Results(tmp_path), "a=1", "b=1", "NDCG@10").startswith("+10.0 %")


def test_a_mean_over_seeds_has_an_unsigned_deviation():
    rows = [{"x": "0.1"}, {"x": "0.3"}]
    assert tables.mean(rows, "x") == ".2000 ± .1414"
    assert tables.mean(rows, "x", lambda value: f"{-100 * value:+.0f} %") == "-20 % ± 14 %"
    assert tables.mean(rows[:1], "x") == ".1000"


def wanted_tables():
    return yaml.safe_load((ROOT / "results" / "tables.yaml").read_text())


def command_line(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
    assert ended.value.code == 0


def test_recorded_runs_come_out_in_a_document(runs, tmp_path, monkeypatch):
    results = tmp_path / "results"
    results.mkdir()
    plain = "backbone.layers=1 dataset.clusters=6 dataset.items=110 dataset.users=120 dim=8 trainer.max_epochs=1"
    (results / "tables.yaml").write_text(
        f"""
mine:
  kind: runs
  rows:
    - {{label: base, command: {plain}}}
    - {{label: other, command: dataset=beauty, against: [{plain}]}}
curve:
  kind: ratios
  metric: HR@10
  noise: insert
  ratios: [0, 0.5]
  picture: true
  rows: [{{label: base, command: {plain}}}]
cells:
  kind: cells
  metric: NDCG@10
  cells: [{{attack: clean}}, {{name: newest, attack: random, position: last, k: 1}}, {{attack: random, position: first, k: 1}}]
  rows: [{{label: base, command: {plain}}}]
"""
    )
    with (results / "tables.yaml").open("a") as stream:
        stream.write(
            f"""
found:
  kind: fields
  file: detection
  script: train.py
  columns: [{{name: AUC, field: AUC, format: ".3f"}}]
  rows:
    - {{label: sampler, command: {plain}, where: {{dropped by: autosam}}}}
    - {{label: none, command: {plain}, where: {{dropped by: nobody}}}}
times:
  kind: fields
  file: benchmarks
  script: scripts/benchmark.py
  columns: [{{name: epoch, field: epoch_median, format: ".2f"}}, {{name: ratio, field: epoch_median ratio, format: ".1f"}}]
  rows:
    - {{label: ours, command: loss=bce --against-floor, where: {{system: seqrec}}}}
    - {{label: floor, command: loss=bce --against-floor, where: {{system: floor}}}}
"""
        )
    timed = {
        **{"arguments": ["loss=bce", "--against-floor"], "threads": 2, "git_commit": "0", "start_to_first_step": 1.234},
        "machine": {"processor": "P", "cores": 2},
        "systems": [
            {"name": name, "epochs": [1.0, 2.0], "epoch_median": t} for name, t in (("seqrec", 3.0), ("floor", 1.5))
        ],
        "ratios": {"floor": {"epoch_median": 2.0}},
    }
    (tmp_path / "timed.json").write_text(json.dumps(timed))
    blocks = "".join(
        f"<!-- results: {name} -->\nold\n<!-- end of results -->\n"
        for name in ("mine", "curve", "cells", "found", "times")
    )
    (tmp_path / "README.md").write_text(f"Before\n{blocks}After\n")
    (tmp_path / "docs").mkdir()
    command_line(monkeypatch, "record.py", runs, "--results", results, "--benchmarks", tmp_path / "timed.json")
    assert len(read(results / "runs.csv")) == 3
    command_line(monkeypatch, "write_results.py", "--root", tmp_path)
    text = (tmp_path / "README.md").read_text()
    hits = [float(row["test HR@10"]) for row in read(results / "runs.csv") if row["command"] == plain]
    assert f"{np.mean(hits):.4f}".lstrip("0") + " ± " in text
    assert "| other | `dataset=beauty` | not run | not run |" in text
    assert "| .5000 | .2500 (-50 %) | not run |" in text
    assert f"| sampler | `{plain}` | 0.600 |" in text
    assert f"| none | `{plain}` | not run |" in text
    assert "| ours | `loss=bce --against-floor` | 3.00 |  |" in text
    assert "| floor | `loss=bce --against-floor` | 1.50 | 2.0 |" in text
    assert read(results / "benchmarks.csv")[0]["machine"] == "P, 2 cores"
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text
    assert "not run" in text.split("curve -->")[1].split("<!--")[0]  # no run at .5
    assert (tmp_path / "docs" / "pictures" / "curve.svg").read_text().startswith("<svg xmlns=")


def test_an_unknown_block_is_an_error():
    with pytest.raises(UserError, match=r"<!-- results: gone -->: results/tables\.yaml has here"):
        tables.filled("<!-- results: gone -->\n<!-- end of results -->", None, {"here": {}})
    spec = {"here": {"kind": "runs", "rows": []}}
    open_block = "<!-- results: here -->\nprose\n<!-- results: here -->\n<!-- end of results -->"
    with pytest.raises(UserError, match=r"2 blocks begin with .*, 1 of them end"):
        tables.filled(open_block, None, spec)


def test_labels_are_escaped_in_a_picture(tmp_path):
    rows = [{"command": c, "seed": 1, "test HR@10": 0.1} for c in ("a=1", "a=1 noise=insert noise.ratio=0.5")]
    merge(tmp_path / "runs.csv", rows, ("command", "seed"))
    spec = {
        "metric": "HR@10",
        "noise": "insert",
        "ratios": [0, 0.5],
        "rows": [{"label": "A & B <1>", "command": "a=1"}],
    }
    ElementTree.fromstring(tables.picture(tables.Results(tmp_path), spec))


def test_gains_follow_from_the_rows_of_their_runs():
    runs, gains = ({}, read(ROOT / "results" / "gains.csv"))
    for row in read(ROOT / "results" / "runs.csv"):
        runs[normal(row["command"]), row["seed"]] = row
    for row in gains:
        ours, theirs = (
            np.mean([float(runs[normal(row[side]), seed][f"test {row['metric']}"]) for seed in row["seeds"].split()])
            for side in ("command", "against")
        )
        assert float(row["gain"]) == pytest.approx(ours / theirs - 1, abs=1e-4)
        assert float(row["low"]) <= float(row["gain"]) <= float(row["high"])


def test_the_documents_and_pictures_are_those_of_the_committed_results():
    results, specs = tables.Results(ROOT / "results"), wanted_tables()
    used = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        assert tables.filled(text, results, specs) == text, f"{path}: run scripts/write_results.py"
        used |= {match.group(2) for match in tables.BLOCK.finditer(text)}
    assert used == set(specs)
    for name, spec in specs.items():
        if spec.get("picture"):
            assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text() == tables.picture(results, spec)


@pytest.mark.slow
def test_every_wanted_command_is_one_of_today_and_in_its_short_form():
    for spec in wanted_tables().values():
        for row in spec["rows"]:
            if "file" not in spec or spec["file"] == "detection":  # the others are no commands of train.py
                for command in (row["command"], *row.get("against", ())):
                    config = settle(composed(*command.split()))
                    assert normal(command_of(config, composed)) == normal(command)


def test_every_point_of_a_picture_is_a_figure_of_its_table():
    results, spec = tables.Results(ROOT / "results"), wanted_tables()["robustness"]
    curves = re.findall(r'<g class="curve"[^>]*><title>([^<]*)</title>(.*?)</g>', tables.picture(results, spec))
    assert len(curves) >= 3
    for label, points in curves:
        (command,) = [row["command"] for row in spec["rows"] if row["label"] == label]
        for x, y in re.findall(r'data-x="([^"]+)" data-y="([^"]+)"', points):
            noise = [f"noise={spec['noise']}", f"noise.ratio={x}"] if float(x) else []
            wanted = normal(" ".join([command, *noise]))
            rows = [row for row in read(ROOT / "results" / "runs.csv") if normal(row["command"]) == wanted]
            assert float(y) == pytest.approx(np.mean([float(row["test NDCG@10"]) for row in rows]))
