"""Tables and pictures of committed results, and the documents that hold them."""

import json
import re
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from seqrec.config import apply_variant
from seqrec.evidence import tables
from seqrec.evidence.commands import command_of, normal
from seqrec.evidence.rows import merge, read
from seqrec.run.summary import results_table
from seqrec.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_gain_of_other_seeds_than_its_rows_is_not_shown_and_one_of_fewer_names_them(tmp_path):
    def write(name, *rows):
        merge(tmp_path / name, rows, ("command", "seed") if name == "runs.csv" else ("command", "against", "metric"))

    def shown():
        return tables.gain(tables.comparison(tables.Results(tmp_path), "a=1", "b=1", "NDCG@10"))

    gain = {"command": "a=1", "against": "b=1", "metric": "NDCG@10", "seeds": "1", "gain": 0.1, "low": 0, "high": 0.2}
    write("runs.csv", {"command": "a=1", "seed": 1}, {"command": "b=1", "seed": 1})
    write("gains.csv", gain | {"seeds": "1 2"})
    assert shown() == "not run"
    write("runs.csv", {"command": "a=1", "seed": 2}, {"command": "b=1", "seed": 2}, {"command": "a=1", "seed": 3})
    assert shown() == "+10.0 % [+0.0 %, +20.0 %]"
    write("runs.csv", {"command": "b=1", "seed": 3})
    assert shown() == "+10.0 % [+0.0 %, +20.0 %] (seeds 1 2)"


def test_a_table_of_gains_compares_at_each_ratio_and_marks_what_chance_does_not_explain(tmp_path):
    gains = {("a=1", 0): (0.1, 0.02), ("a=1", 0.5): (0.2, 0.03), ("a=2", 0): (-0.3, 0.001)}
    runs, rows = [], []
    for command, ratio in (*gains, ("b=1", 0), ("b=1", 0.5)):
        noise = f" noise=insert noise.ratio={ratio}" if ratio else ""
        runs.append({"command": command + noise, "seed": 1})
        if command != "b=1":
            value, p = gains[command, ratio]
            rows.append({"command": command + noise, "against": "b=1" + noise, "seeds": "1", "metric": "NDCG@10"})
            rows[-1] |= {"gain": value, "low": value - 0.1, "high": value + 0.1, "p": p}
    merge(tmp_path / "runs.csv", runs, ("command", "seed"))
    merge(tmp_path / "gains.csv", rows, ("command", "against", "metric"))
    lines = [{"label": name, "command": f"{name}=1" if name != "c" else "a=2", "against": ["b=1"]} for name in "ac"]
    spec = {"kind": "gains", "metric": "NDCG@10", "noise": "insert", "ratios": [0, 0.5], "rows": lines}
    table = tables.table_of_gains(tables.Results(tmp_path), spec).splitlines()
    assert table[0] == "|  | NDCG@10 at 0 | NDCG@10 at 0.5 |"
    # Holm over the three: .001 * 3, .02 * 2, and .03 raised to the .04 before it
    assert table[2] == "| a | **+10.0 % [+0.0 %, +20.0 %]** | **+20.0 % [+10.0 %, +30.0 %]** |"
    assert table[3] == "| c | **-30.0 % [-40.0 %, -20.0 %]** | not run |"
    rows[0]["p"] = 0.026  # .026 * 2 is above .05, and so is all that follows
    merge(tmp_path / "gains.csv", rows, ("command", "against", "metric"))
    table = tables.table_of_gains(tables.Results(tmp_path), spec).splitlines()
    assert table[2] == "| a | +10.0 % [+0.0 %, +20.0 %] | +20.0 % [+10.0 %, +30.0 %] |"
    noisy = " noise=insert noise.ratio=0.5"
    wanted = [("a=1", "b=1"), ("a=1" + noisy, "b=1" + noisy), ("a=2", "b=1"), ("a=2" + noisy, "b=1" + noisy)]
    assert tables.comparisons({"here": spec, "other": {"kind": "runs", "rows": lines}}) == wanted


def test_a_mean_over_seeds_has_an_unsigned_deviation():
    rows = [{"x": "0.1"}, {"x": "0.3"}]
    assert tables.mean(rows, "x") == ".2000 ± .1414"
    assert tables.mean(rows, "x", lambda value: f"{-100 * value:+.0f} %") == "-20 % ± 14 %"
    assert tables.mean(rows[:1], "x") == ".1000"


def test_the_best_trial_of_each_method_is_in_bold(tmp_path):
    scores = {"a=1": 0.1, "a=2": 0.3, "a=3": 0.2, "b=1": 0.25}
    rows = [{"command": c, "seed": 1, "valid NDCG@10": v, "epochs": 20, "best_epoch": 9} for c, v in scores.items()]
    merge(tmp_path / "runs.csv", rows, ("command", "seed"))
    trials = [{"label": command[0], "command": command} for command in (*scores, "b=2")]
    table = tables.table_of_trials(tables.Results(tmp_path), {"rows": trials})
    assert "| a | `a=1` | 20 (9) | .1000 |" in table
    assert "| a | `a=2` | 20 (9) | **.3000** |" in table
    assert "| a | `a=3` | 20 (9) | .2000 |" in table
    assert "| b | `b=1` | 20 (9) | **.2500** |" in table
    assert "| b | `b=2` | not run | not run |" in table


def wanted_tables():
    return yaml.safe_load((ROOT / "results" / "tables.yaml").read_text())


def command_line(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # else the script sets it itself, for all tests to come
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
    - {{label: other, command: dataset=beauty, against: [{plain}], reported: .0974 / .0588}}
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
  cells: [{{attack: clean}}, {{name: newest, attack: random, position: last, k: 1}}, {{attack: random, position: first, k: 1}},
    {{name: donor's, attack: random, position: last, k: 1, source: donor}}]
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
shown:
  kind: screen
  rows: [{{label: base, command: {plain}}}]
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
        for name in ("mine", "curve", "cells", "found", "shown", "times")
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
    assert "| base: not run | .0974 / .0588 |\n" in text
    assert "| .5000 | .2500 (-50 %) | not run | not run |" in text
    assert f"| sampler | `{plain}` | 0.600 |" in text
    assert f"| none | `{plain}` | not run |" in text
    assert "| ours | `loss=bce --against-floor` | 3.00 |  |" in text
    assert "| floor | `loss=bce --against-floor` | 1.50 | 2.0 |" in text
    (folder,) = runs.glob("synthetic/*/sasrec-plain/seed1-*")
    ended = results_table(json.loads((folder / "metrics.json").read_text()), Path("outputs/synthetic/"))
    assert f"```text\n{ended}" in text
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
def test_every_wanted_command_is_one_of_today_and_in_its_short_form(composed):
    for spec in wanted_tables().values():
        for row in spec["rows"]:
            if spec.get("script", "train.py") == "train.py":
                for command in (row["command"], *row.get("against", ())):
                    config = apply_variant(composed(*command.split()))
                    assert normal(command_of(config, composed)) == normal(command)


@pytest.mark.parametrize(
    ("name", "dataset", "loss"),
    [
        ("plain/strongest", "beauty", "cross_entropy"),
        ("plain/strongest_sports", "sports", "cross_entropy"),
        ("asarrec/strongest", "beauty", "bce"),
        ("coserec/strongest_sports", "sports", "bce"),
        ("lma4rec/strongest_sports", "sports", "bce"),
    ],
)
def test_a_strongest_setting_of_sasrec_is_the_best_of_the_committed_results(name, dataset, loss, composed):
    validation = {}
    for row in read(ROOT / "results" / "runs.csv"):
        chosen = [row[field] for field in ("dataset", "noise", "loss", "method")]
        if chosen == [dataset, "none", loss, name.split("/")[0]] and row["backbone"].startswith("sasrec"):
            validation.setdefault(row["command"], []).append(float(row["valid NDCG@10"]))
    best = max(validation, key=lambda command: np.mean(validation[command]))
    strongest = apply_variant(composed(f"experiment={name}"))
    assert normal(command_of(strongest, composed)) == normal(best)


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
