"""The tables against figures computed anew from the run directories."""

import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pytest

from seqrec.report import grids, statistics
from seqrec.report.analysis import analyse
from seqrec.report.grids import as_latex as latex
from seqrec.report.grids import as_markdown as markdown
from seqrec.report.tables import read_csv, to_csv, write_csv
from seqrec.report.write import collect

METRICS = ["HR@10", "NDCG@10"]


def report_of(folder, baseline="plain"):
    runs, left_out = collect([folder], METRICS)
    return analyse(runs, left_out, METRICS, "NDCG@10", baseline)


@pytest.fixture
def report(grid_of_runs):
    return report_of(grid_of_runs)


def written(folder, method, ratio, metric):
    """A metric of both seeds as metrics.json has it."""
    return [
        json.loads((folder / f"{method}-{ratio:g}-{seed}" / "metrics.json").read_text())["test"][metric]
        for seed in (1, 2)
    ]


def test_cells(report, grid_of_runs):
    (table,) = report.tables
    assert (table.label, table.ratios) == ("insert", [0, 0.2, 0.4])
    assert [row.label for row in table.rows] == ["popularity", "plain", "cat"]
    assert len(table.cells) == 3 * 3 * 2
    for (label, ratio, metric), cell in table.cells.iterrows():
        a, b = written(grid_of_runs, label, ratio, metric)
        assert (cell["mean"], cell.deviation) == pytest.approx(((a + b) / 2, abs(a - b) / math.sqrt(2)))
        assert cell.runs == 2
        others = [np.mean(written(grid_of_runs, other, ratio, metric)) for other in ("plain", "cat", "popularity")]
        assert cell.best == (cell["mean"] == max(others))
        assert cell.low <= cell["mean"] <= cell.high


def test_a_single_run_has_no_deviation(write_run):
    report = report_of(write_run("a"))
    cell = report.tables[0].cells.loc["plain", 0, "NDCG@10"]
    assert (math.isnan(cell.deviation), cell.runs, report.tables[0].label) == (True, 1, "clean")
    assert "± – (1)" in markdown(report.tables[0])
    assert r"$\pm$-- (1)" in latex(report.tables[0])


def test_comparisons_are_one_family_on_users_averaged_over_seeds(report):
    (table,) = report.tables
    keys = list(table.tests[["row", "ratio"]].itertuples(index=False, name=None))
    assert set(keys) == {(label, ratio) for label in ("cat", "popularity") for ratio in (0, 0.2, 0.4)}

    def averaged(method, ratio):
        values = [r.values["NDCG@10"] for r in report.runs if r.names["method"] == method and r.ratio == ratio]
        assert len(values) == 2
        return (values[0] + values[1]) / 2

    expected = [statistics.compare(averaged(row, ratio), averaged("plain", ratio)) for row, ratio in keys]
    corrected = statistics.holm(np.array([found["p"] for found in expected]))
    for key, found, p, test in zip(keys, expected, corrected, table.tests.to_dict("records"), strict=True):
        assert (test["p"], test["p (Holm)"], test["effect"]) == pytest.approx((found["p"], p, found["effect"]))
        mark = "" if p >= 0.05 else "better" if found["effect"] > 0 else "worse"
        assert table.cells.loc[(*key, "NDCG@10"), "mark"] == mark
        assert table.cells.loc[(*key, "HR@10"), "mark"] == ""
    assert set(table.cells.mark) == {"", "better", "worse"}


def test_markdown(report):
    lines = markdown(report.tables[0]).splitlines()
    assert lines[0] == (
        "| method | backbone | loss | prefixes | HR@10, clean | NDCG@10, clean | HR@10, insert 0.2 | NDCG@10, insert 0.2 "
        "| HR@10, insert 0.4 | NDCG@10, insert 0.4 |"
    )
    cat = report.tables[0].cells.loc["cat", 0.4, "NDCG@10"]
    assert (cat.best, cat.mark) == (True, "better")
    assert lines[4].startswith("| cat | sasrec | cross_entropy | no |")
    assert lines[4].endswith(f"| **{cat['mean']:.4f}**↑ ± {cat.deviation:.4f} (2) |")
    assert len({line.count("|") for line in lines[:5]}) == 1


def test_latex(report):
    lines = latex(report.tables[0]).splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert [row.count("&") for row in rows] == [6, 9, 9, 9, 9]
    assert rows[0].count(r"\multicolumn{2}") == 3
    cat = report.tables[0].cells.loc["cat", 0.4, "NDCG@10"]
    assert rows[-1].startswith(r"cat & sasrec & cross\_entropy & no & ")
    ending = rf"\textbf{{{cat['mean']:.4f}}}$^{{\uparrow}}$ {{\scriptsize$\pm${cat.deviation:.4f} (2)}} \\"
    assert rows[-1].endswith(ending)
    assert latex(report.tables[0]).count("{") == latex(report.tables[0]).count("}")


def test_csv_has_full_precision(report):
    table = report.tables[0]
    lines = list(csv.DictReader(io.StringIO(to_csv(grids.cells(table)))))
    assert len(lines) == 18
    for line in lines:
        cell = table.cells.loc[line["row"], float(line["ratio"]), line["metric"]]
        assert (float(line["mean"]), line["mark"], line["best"]) == (cell["mean"], cell.mark, str(cell.best))
        assert (line["loss"], line["prefixes"]) == ("none" if line["row"] == "popularity" else "cross_entropy", "no")


def records(grid):
    return list(csv.DictReader(io.StringIO(to_csv(grid.frame))))


def test_robustness(report, grid_of_runs):
    for line in records(grids.robustness(report.tables[0], report.floors)):
        clean, low, high = (
            np.mean(written(grid_of_runs, line["row"], ratio, line["metric"])) for ratio in (0, 0.2, 0.4)
        )
        a, b = written(grid_of_runs, line["row"], 0, line["metric"])
        expected = {
            "clean": clean,
            "noise floor": abs(a - b) / clean,
            "drop 0.2": (clean - low) / clean,
            "drop 0.4": (clean - high) / clean,
            "retention 0.2": low / clean,
            "retention 0.4": high / clean,
            "area": (0.1 * (clean + low) + 0.1 * (low + high)) / (0.4 * clean),
            "slope": (high - clean) / 0.4 / clean,  # of three points at equal distances
        }
        for name, value in expected.items():
            assert float(line[name]) == pytest.approx(value, abs=1e-12), name
        assert (line["half point"] == "") == (high > clean / 2)


def test_gains_stand_beside_clean_accuracy(report, grid_of_runs):
    lines = records(grids.gains(report.tables[0]))
    assert [(line["row"], line["baseline"]) for line in lines] == [("popularity", "plain")] * 2 + [("cat", "plain")] * 2
    for line in lines:
        own, base = (
            [np.mean(written(grid_of_runs, name, ratio, line["metric"])) for ratio in (0, 0.2, 0.4)]
            for name in (line["row"], "plain")
        )
        assert float(line["clean"]) == pytest.approx(own[0])
        for slot, ratio in enumerate(("0", "0.2", "0.4")):
            assert float(line[f"gain {ratio}"]) == pytest.approx(own[slot] - base[slot])
            assert float(line[f"relative gain {ratio}"]) == pytest.approx(own[slot] / base[slot] - 1)
            if slot:
                avoided = 1 - ((own[0] - own[slot]) / own[0]) / ((base[0] - base[slot]) / base[0])
                assert float(line[f"drop avoided {ratio}"]) == pytest.approx(avoided)
        if line["row"] == "popularity":
            assert float(line["drop avoided 0.4"]) == 1


def test_drop_avoided_is_empty_where_the_baseline_gains(write_run):
    for method, levels in (("plain", (9, 2)), ("cat", (5, 7))):
        for ratio, level in zip((0, 0.2), levels, strict=True):
            noise = {"name": "insert", "ratio": ratio, "seed": 1} if ratio else {"name": "none"}
            folder = write_run(f"{method}{ratio}", {"method.name": method, "noise": noise}, level=level).parent
    (line,) = [line for line in records(grids.gains(report_of(folder).tables[0])) if line["metric"] == "NDCG@10"]
    assert line["drop avoided 0.2"] == ""
    assert float(line["gain 0.2"]) < 0


def test_missing_cells_are_empty_and_have_no_summary(write_run):
    noise = {"name": "insert", "ratio": 0.4, "seed": 1}
    write_run("plain0"), write_run("plain4", {"noise": noise}), write_run("cat0", {"method.name": "cat"})
    report = report_of(write_run("cat2", {"method.name": "cat", "noise": noise | {"ratio": 0.2}}).parent)
    assert markdown(report.tables[0]).splitlines()[2].endswith(" |")
    lines = {
        line["row"]: line
        for line in records(grids.robustness(report.tables[0], report.floors))
        if line["metric"] == "HR@10"
    }
    assert lines["cat"]["drop 0.2"]
    assert [lines["cat"][name] for name in ("drop 0.4", "area", "slope", "half point")] == [""] * 4
    assert lines["plain"]["drop 0.2"] == ""
    assert report.flags == []


def test_untrained_winners_are_flagged(write_run):
    write_run("a", level=9)
    report = report_of(write_run("b", {"method.name": "markov"}, level=2, untrained=True).parent)
    assert report.flags == ["clean: the untrained baseline markov is best: HR@10 at 0, NDCG@10 at 0."]
    untrained_only = report_of(write_run("only/c", {"method.name": "markov"}, level=2, untrained=True))
    assert untrained_only.flags == ["No row is the baseline plain: there are no tests and no gains."]


def test_noise_without_its_clean_partner_is_flagged(write_run):
    write_run("a")
    for seed in (1, 2, 3):
        folder = write_run(f"n{seed}", {"seed": seed, "noise": {"name": "insert", "ratio": 0.2, "seed": seed}}).parent
    assert report_of(folder).flags == ["insert 0.2: plain has no clean run of seed 2, 3."]


def test_clean_runs_of_more_seeds_are_flagged(write_run):
    for seed in (1, 2, 3):
        write_run(f"a{seed}", {"seed": seed})
    folder = write_run("n1", {"noise": {"name": "insert", "ratio": 0.2, "seed": 1}}).parent
    assert report_of(folder).flags == ["insert 0.2: plain has no run of seed 2, 3."]


def test_table_without_any_clean_run(write_run):
    for ratio in (0.2, 0.4):
        folder = write_run(f"n{ratio}", {"noise": {"name": "insert", "ratio": ratio, "seed": 1}}).parent
    report = report_of(folder)
    assert report.tables[0].ratios == [0.2, 0.4]
    assert len(report.flags) == 2
    line = records(grids.robustness(report.tables[0], report.floors))[0]
    assert [line[name] for name in ("clean", "drop 0.2", "drop 0.4", "area")] == [""] * 4


def test_different_noise_under_one_name_is_flagged(write_run, change_manifest):
    noise = {"name": "insert", "ratio": 0.2, "seed": 1}
    write_run("a"), write_run("b", {"method.name": "cat"}), write_run("an", {"noise": noise})
    folder = write_run("bn", {"method.name": "cat", "noise": noise})
    assert report_of(folder.parent).flags == []
    change_manifest(folder, noise={"noise_sha256": "other"}, warnings=["made.txt has users 41, expected 40"])
    first, second = report_of(folder.parent).flags
    assert first.startswith("insert 0.2, noise seed 1: the runs were trained on different noise, e.g. ")
    assert second == "Warning of a run: made.txt has users 41, expected 40"


def test_every_operator_has_its_table_with_the_same_clean_column(write_run):
    write_run("a")
    for name in ("insert", "delete"):
        folder = write_run(name, {"noise": {"name": name, "ratio": 0.2, "seed": 1}}).parent
    report = report_of(folder)
    assert [table.label for table in report.tables] == ["delete", "insert"]
    clean = [table.cells.loc[("plain", 0, "NDCG@10"), "mean"] for table in report.tables]
    assert clean[0] == clean[1]


def test_noise_floor_grid(report, grid_of_runs):
    lines = records(grids.noise_floor(report))
    assert len(lines) == 6
    for line in lines:
        a, b = written(grid_of_runs, line["row"], 0, line["metric"])
        assert float(line["drop, mean"]) == float(line["drop, largest"]) == pytest.approx(2 * abs(a - b) / (a + b))


def test_a_text_that_a_spreadsheet_would_compute_is_quoted_and_comes_back(tmp_path):
    texts = ["=1+1", "+cmd", "-x", "@sum", "-1+cmd|' /C calc'!A0", "-0.5", "-2", "1e-5", "'quoted", "plain", ""]
    frame = pd.DataFrame({"text": texts, "number": [-0.25] * len(texts)}, dtype=object)
    write_csv(tmp_path / "a.csv", frame)
    cells = [line[0] for line in csv.reader((tmp_path / "a.csv").open())][1:]
    assert cells[:5] == [f"'{text}" for text in texts[:5]]
    assert cells[5:] == texts[5:]
    assert read_csv(tmp_path / "a.csv").text.tolist() == texts


def test_names_are_no_commands_in_latex(write_run):
    folder = write_run("a", {"method.name": r"\input{x}~^|"})
    assert r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}|" in latex(report_of(folder).tables[0])
    assert r"\input{x}~^\|" in markdown(report_of(folder).tables[0])
