"""Tables made of recorded results, and the documents that hold them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from seqrec.commands import record, write_results
from seqrec.report import documents
from seqrec.report.committed import Results, Wanted
from seqrec.report.documents import filled, mean
from seqrec.report.tables import read_csv, write_csv
from seqrec.runs.reader import read_runs
from seqrec.runs.summary import results_table
from seqrec.utils.errors import UserError

NOISES = "noises: {insert: n1}\n"


@pytest.fixture
def results(tmp_path):
    """Function from rows of runs.csv and gains.csv and a text of tables.yaml to results."""

    def make(runs, gains=(), text="tables: {}"):
        clean = {"configuration": "x", "seed": 1, "noise_setting": "", "ratio": 0, "command": ""}
        write_csv(tmp_path / "runs.csv", pd.DataFrame([clean | run for run in runs], dtype=object))
        if gains:
            write_csv(tmp_path / "gains.csv", pd.DataFrame(gains, dtype=object))
        (tmp_path / "tables.yaml").write_text(NOISES + text)
        return Results(tmp_path, Wanted(tmp_path / "tables.yaml"))

    return make


def test_a_gain_of_other_seeds_than_its_rows_is_not_shown_and_one_of_fewer_names_them(results):
    gain = {"setting": "a", "against": "b", "noise_setting": "", "ratio": 0, "metric": "NDCG@10", "seeds": "1 2"}
    gain |= {"gain": 0.1, "low": 0, "high": 0.2}

    def shown(*seeds):
        runs = [{"setting": setting, "seed": seed} for setting, of in zip("ab", seeds, strict=True) for seed in of]
        return documents.shown_gain(results(runs, [gain]).gain("a", "b", ("", "0"), "NDCG@10"))

    assert shown([1], [1]) == "not run"
    assert shown([1, 2, 3], [1, 2]) == "+10.0 % [+0.0 %, +20.0 %]"
    assert shown([1, 2, 3], [1, 2, 3]) == "+10.0 % [+0.0 %, +20.0 %] (seeds 1 2)"


def test_a_run_without_a_metric_leaves_a_cell_that_says_so(results):
    row = {"setting": "a", "test HR@10": ".1", "test NDCG@10": "", "valid NDCG@10": ".2", "train_seconds": "60"}
    row |= {"epochs": "2", "best_epoch": "1", "parameters": "5"}
    table = documents.table_of_runs(
        results([row]), {"rows": [{"setting": "a", "label": "one", "against": [], "reported": ""}]}
    )
    assert [cell.strip() for cell in table.splitlines()[2].split("|")][5:8] == [".1000", "not run", ".2000"]


def test_a_table_of_gains_compares_at_each_ratio_and_marks_what_chance_does_not_explain(results):
    def table(p):
        gains = {("a", 0): (0.1, p), ("a", 0.5): (0.2, 0.03), ("c", 0): (-0.3, 0.001)}
        noise = {0: {}, 0.5: {"noise_setting": "n1", "ratio": 0.5}}
        runs = [{"setting": setting, **noise[ratio]} for setting, ratio in (*gains, ("b", 0), ("b", 0.5))]
        rows = [
            {"setting": setting, "against": "b", "noise_setting": "", "ratio": 0, **noise[ratio], "seeds": "1"}
            | {"metric": "NDCG@10", "gain": value, "low": value - 0.1, "high": value + 0.1, "p": p}
            for (setting, ratio), (value, p) in gains.items()
        ]
        text = """
settings: {base: {setting: b, label: base}}
tables:
  here: {kind: gains, metric: NDCG@10, noise: insert, ratios: [0, 0.5], rows: [
    {setting: a, label: a, against: [base]}, {setting: c, label: c, against: [base]}]}
"""
        found = results(runs, rows, text)
        assert found.wanted.comparisons() == [(s, "b", *n) for s in "ac" for n in (("", "0"), ("n1", "0.5"))]
        return documents.table_of_gains(found, found.wanted.tables["here"]).splitlines()

    lines = table(0.02)
    assert lines[0] == "|  | NDCG@10 at 0 | NDCG@10 at 0.5 |"
    # Holm over the three: .001 * 3, .02 * 2, and .03 raised to the .04 before it
    assert lines[2] == "| a | **+10.0 % [+0.0 %, +20.0 %]** | **+20.0 % [+10.0 %, +30.0 %]** |"
    assert lines[3] == "| c | **-30.0 % [-40.0 %, -20.0 %]** | not run |"
    # .026 * 2 is above .05, and so is all that follows
    assert table(0.026)[2] == "| a | +10.0 % [+0.0 %, +20.0 %] | +20.0 % [+10.0 %, +30.0 %] |"


def test_a_table_of_methods_has_texts_and_the_gain_over_what_is_compared_first(results):
    gains = {"setting": "a", "against": "b", "noise_setting": "", "ratio": 0, "metric": "NDCG@10", "seeds": "1"}
    text = """
settings: {mine: {setting: a, label: A, against: [base, other]}, base: {setting: b, label: B}, other: {setting: c, label: C}}
tables: {here: {kind: methods, rows: [{label: M, texts: {paper: P}, gains: {BCE: mine}}]}}
"""
    found = results([{"setting": name} for name in "abc"], [gains | {"gain": 0.1, "low": 0, "high": 0.2}], text)
    lines = documents.table_of_methods(found, found.wanted.tables["here"]).splitlines()
    assert lines[0] == "| method | paper | BCE |"
    assert lines[2] == "| M | P | +10.0 % [+0.0 %, +20.0 %] |"


def test_a_table_has_the_columns_that_are_asked_for(results):
    text = """
settings: {a: {setting: a, label: A}}
commands: {a: short}
tables: {here: {kind: ratios, metric: NDCG@10, noise: insert, ratios: [0], columns: [retained at 0, "`python train.py ...`"], rows: [a]}}
"""
    found = results([{"setting": "a", "command": "as it was run", "test NDCG@10": 0.5}], text=text)
    lines = documents.table_of_ratios(found, found.wanted.tables["here"]).splitlines()
    assert lines[0] == "|  | retained at 0 | `python train.py ...` |"
    assert lines[2] == "| A | 100 % | `short` |"


def test_what_is_retained_is_that_of_the_seeds_with_both_ratios(results):
    text = """
settings: {a: {setting: a, label: A}, b: {setting: b, label: B}}
tables: {here: {kind: ratios, metric: NDCG@10, noise: insert, ratios: [0, 0.5], rows: [a, b]}}
"""
    clean, noisy = {"noise_setting": "", "ratio": 0}, {"noise_setting": "n1", "ratio": 0.5}
    values = [("a", clean, (0.4, 0.6, 0.8)), ("a", noisy, (0.2, 0.4)), ("b", clean, (0.4,)), ("b", noisy, (None, 0.1))]
    runs = [
        {"setting": setting, "seed": seed, "test NDCG@10": value, **noise}
        for setting, noise, of_seeds in values
        for seed, value in enumerate(of_seeds, start=1)
        if value is not None
    ]
    found = results(runs, text=text)
    lines = documents.table_of_ratios(found, found.wanted.tables["here"]).splitlines()
    assert lines[2] == "| A |  | .6000 ± .2000 | .3000 ± .1414 | 60 % |"  # (.2 + .4) / (.4 + .6)
    assert lines[3] == "| B |  | .4000 | .1000 | not run |"


def test_a_mean_over_seeds_has_an_unsigned_deviation():
    values = pd.Series(["0.1", "0.3"])
    assert mean(values) == ".2000 ± .1414"
    assert mean(values, lambda value: f"{-100 * value:+.0f} %") == "-20 % ± 14 %"
    assert mean(values[:1]) == ".1000"


def test_the_best_trial_of_each_method_is_in_bold(results):
    scores = {"a1": 0.1, "a2": 0.3, "a3": 0.2, "b1": 0.25}
    runs = [{"setting": s, "command": s, "valid NDCG@10": v, "epochs": 20, "best_epoch": 9} for s, v in scores.items()]
    spec = {"rows": [{"label": setting[0], "setting": setting} for setting in (*scores, "b2")]}
    lines = documents.table_of_trials(results(runs), spec).splitlines()[2:]
    assert lines == [
        "| a | `a1` | 20 (9) | .1000 |",
        "| a | `a2` | 20 (9) | **.3000** |",
        "| a | `a3` | 20 (9) | .2000 |",
        "| b | `b1` | 20 (9) | **.2500** |",
        "| b |  | not run | not run |",
    ]


def test_a_row_inherits_from_its_setting_and_may_differ(tmp_path):
    (tmp_path / "tables.yaml").write_text(
        """
settings: {a: {setting: "1", label: A, against: [b], reported: .1}, b: {setting: "2", label: B}}
tables: {t: {kind: runs, rows: [a, {run: a, label: other, against: []}, {setting: "3", label: C, against: [a]}]}}
"""
    )
    rows = Wanted(tmp_path / "tables.yaml").tables["t"]["rows"]
    assert [row["label"] for row in rows] == ["A", "other", "C"]
    assert [[other["setting"] for other in row["against"]] for row in rows] == [["2"], [], ["1"]]
    assert [row["reported"] for row in rows] == [0.1, 0.1, ""]
    (tmp_path / "tables.yaml").write_text("settings: {}\ntables: {t: {kind: runs, rows: [gone]}}")
    with pytest.raises(UserError, match="gone: no such name under settings"):
        Wanted(tmp_path / "tables.yaml")


def test_recorded_runs_come_out_in_a_document(trained, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    runs, _ = read_runs([trained], ["NDCG@10"])
    plain = next(run for run in runs if run.names["method"] == "plain" and run.seed == 1)
    (results / "tables.yaml").write_text(
        f"""
noises: {{insert: n1}}
settings:
  base: {{setting: "{plain.setting}", label: base}}
tables:
  mine:
    kind: runs
    rows: [base, {{setting: "0", label: other, against: [base], reported: .0974 / .0588}}]
  curve: {{kind: ratios, metric: HR@10, noise: insert, ratios: [0, 0.5], picture: true, rows: [base]}}
  cells:
    kind: cells
    metric: NDCG@10
    cells: [{{attack: clean}}, {{name: newest, attack: random, position: last, k: 1}},
      {{attack: random, position: first, k: 1}}, {{name: donor's, attack: random, position: last, k: 1, source: donor}}]
    rows: [base]
  found:
    kind: fields
    file: detection
    script: train.py
    columns: [{{name: AUC, field: AUC, format: ".3f"}}]
    rows: [{{run: base, where: {{dropped by: autosam}}}}, {{run: base, label: none, where: {{dropped by: nobody}}}}]
  shown: {{kind: screen, rows: [base]}}
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
    record.main([str(trained), "--results", str(results), "--benchmarks", str(tmp_path / "timed.json")])
    assert "broken: not complete" in capsys.readouterr().err
    recorded = read_csv(results / "runs.csv")
    assert len(recorded) == 3
    write_results.main(["--root", str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    hits = recorded[recorded.setting == plain.setting]["test HR@10"].astype(float)
    assert f"{hits.mean():.4f}".lstrip("0") + " ± " in text
    assert "| other |  | not run |" in text
    assert "| base: not run | .0974 / .0588 |\n" in text
    assert "| .5000 | .2500 (-50 %) | not run | not run |" in text
    assert "| base | `noise=insert noise.ratio=0` | 0.600 |" in text
    assert "| none | `noise=insert noise.ratio=0` | not run |" in text
    assert "| ours | `loss=bce --against-floor` | 3.00 |  |" in text
    assert "| floor | `loss=bce --against-floor` | 1.50 | 2.0 |" in text
    ended = results_table(json.loads((plain.path / "metrics.json").read_text()), Path("outputs/synthetic/"))
    assert f"```text\n{ended}" in text
    assert read_csv(results / "benchmarks.csv").machine[0] == "P, 2 cores"
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text
    assert "not run" in text.split("curve -->")[1].split("<!--")[0]  # no run at .5
    assert (tmp_path / "docs" / "pictures" / "curve.svg").exists()


def test_an_unknown_or_open_block_is_an_error(results):
    found = results([{"setting": "a"}], text="tables: {here: {kind: trials, rows: []}}")
    with pytest.raises(UserError, match=r"<!-- results: gone -->: results/tables\.yaml has here"):
        filled("<!-- results: gone -->\n<!-- end of results -->", found)
    open_block = "<!-- results: here -->\nprose\n<!-- results: here -->\n<!-- end of results -->"
    with pytest.raises(UserError, match=r"2 blocks begin with .*, 1 of them end"):
        filled(open_block, found)
