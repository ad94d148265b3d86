"""Committed results: the command of a run, rows that are found again, and documents that say what the rows say."""

import csv
import functools
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

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
from seqrec.evidence.rows import finished, gain_rows, merge, read, run_row

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
    with pytest.raises(UserError, match=r"trainer\.gone: a key that either"):
        command_of(config, composed)
    config = OmegaConf.masked_copy(composed("seed=9"), [key for key in composed() if key != "max_len"])
    with pytest.raises(UserError, match="max_len: a key that either"):
        command_of(config, composed)


def test_commands_are_found_whatever_their_order_and_numbers():
    assert normal("b=.10 a=[1, 2]".replace(", ", ",")) == normal("a=[1,2] b=0.1")
    assert normal("a=true") != normal("a=1")
    assert normal("a=0.1") != normal("a=0.11")


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
    (stage1 / "robustness.csv").write_text(
        "attack,position,k,ratio,draws,NDCG@10,NDCG@10 drop\nclean,,,,1,.5,0\nrandom,last,1,,5,.25,.5\n"
    )
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
    for run in found:
        row = run_row(run)
        metrics = json.loads((run.path / "metrics.json").read_text())
        assert row["test NDCG@10"] == pytest.approx(metrics["test"]["NDCG@10"], abs=1e-6)
        assert row["valid HR@5"] == pytest.approx(metrics["valid"]["HR@5"], abs=1e-6)
        assert (row["width"], row["epochs"], row["noise"]) == (8, 1, "none")
        assert row["parameters"] == run.manifest["parameters"]


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
    for run in (one, other):
        ranks = np.load(run.path / "ranks_test.npz")
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
            config = settle(composed(*row["command"].split()))
            assert normal(command_of(config, composed)) == normal(row["command"])


def test_every_point_of_a_picture_is_a_figure_of_its_table():
    results, specs = tables.Results(ROOT / "results"), wanted_tables()
    spec = specs["robustness"]
    with (ROOT / "results" / "runs.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["noise"] in ("none", "insert")]
    points = [float(value) for value in re.findall(r'data-y="([^"]+)"', tables.picture(results, spec))]
    known = {float(row["test NDCG@10"]) for row in rows}
    assert points
    assert all(any(abs(point - value) < 1e-9 for value in known) for point in points)
