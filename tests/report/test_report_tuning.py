"""What tuning spent is in the report, and unequal budgets are named."""

import json

import numpy as np
import pytest

from seqrec.report.analysis import analyse
from seqrec.report.lists import Listed
from seqrec.report.tuning import flags, grid, spent, studies
from seqrec.runs.reader import read_runs

METRICS = ["NDCG@10"]


def write_study(folder, runs, values, epochs=3):
    """Write a study beside runs; a trial with a negative value is ended early."""
    study = folder / "study-00000000"
    best = {"monitor": "NDCG@10", "trials": len(values), "best_value": max(values), "runs": runs}
    for number, value in enumerate(values):
        (study / f"trial-{number:03d}").mkdir(parents=True)
        state = "complete" if value > 0 else "pruned"
        trial = {"number": number, "state": state, "value": abs(value), "epochs": epochs, "curve": {}, "values": {}}
        (study / f"trial-{number:03d}" / "trial.json").write_text(json.dumps(trial))
    (study / "study.json").write_text(json.dumps(best))


def made(root, budgets, listed=()):
    """Analyse the runs below `root`, with systems `listed` beside them."""
    runs, left_out = read_runs([root], METRICS)
    better = np.zeros(len(runs[0].values["NDCG@10"]), np.int64)
    runs += [Listed(name, runs[0], better, better + 1, 10, METRICS) for name in listed]
    report = analyse(runs, left_out, METRICS, "NDCG@10", "plain")
    searched = studies(report)
    assert spent(report, searched) == budgets
    return searched, flags(report, searched)


def test_trials_epochs_and_the_curve_of_the_search_are_shown(write_run, tmp_path):
    for method in ("plain", "cat"):
        write_run(f"{method}/seed1-aaaaaaaa", {"method.name": method})
    assert made(tmp_path / "runs", {"plain": 0, "cat": 0}) == ([], [])

    write_study(tmp_path / "runs" / "cat", ["seed1-aaaaaaaa"], [0.2, -0.4, 0.3, 0.25])
    searched, warned = made(tmp_path / "runs", {"plain": 0, "cat": 4})
    (line,) = grid(searched).frame.to_dict("records")
    assert (line["row"], line["trials"], line["ended early"], line["epochs"]) == ("cat", 4, 1, 12)
    assert (line["as it was"], line["best"]) == (0.2, 0.3)
    assert searched[0].curve() == ([1, 3, 4], [0.2, 0.3, 0.3])
    assert warned[0].splitlines()[1:] == ["4: cat", "0: plain"]

    write_study(tmp_path / "runs" / "plain", ["seed1-aaaaaaaa"], [0.1, 0.2, 0.1, 0.1])
    assert made(tmp_path / "runs", {"plain": 4, "cat": 4})[1] == []


@pytest.mark.parametrize(("epochs", "warned"), [(6, False), (7, True)])
def test_trials_that_trained_more_than_twice_as_long_are_named(epochs, warned, write_run, tmp_path):
    for method, length in (("plain", 3), ("cat", epochs)):
        write_run(f"{method}/seed1-aaaaaaaa", {"method.name": method})
        write_study(tmp_path / "runs" / method, ["seed1-aaaaaaaa"], [0.1, 0.2], length)
    flagged = made(tmp_path / "runs", {"plain": 2, "cat": 2})[1]
    assert [flag.splitlines()[1:] for flag in flagged] == [[f"{epochs}: cat", "3: plain"]] * warned


def test_a_study_of_other_runs_is_not_taken_for_theirs(write_run, tmp_path):
    write_run("plain/seed1-aaaaaaaa")
    write_study(tmp_path / "runs" / "plain", ["seed1-bbbbbbbb"], [0.1])
    assert made(tmp_path / "runs", {"plain": 0}) == ([], [])


def test_another_system_is_not_taken_for_a_run_that_was_tuned(write_run, tmp_path):
    write_run("plain/seed1-aaaaaaaa")
    write_study(tmp_path / "runs" / "plain", ["seed1-aaaaaaaa"], [0.1])
    searched, warned = made(tmp_path / "runs", {"plain": 1}, listed=["another"])
    assert [study.row for study in searched] == ["plain"]
    assert warned == []


def test_a_damaged_study_does_not_stop_the_report(write_run, tmp_path):
    write_run("plain/seed1-aaaaaaaa")
    write_study(tmp_path / "runs" / "plain", ["seed1-aaaaaaaa"], [0.1])
    study = tmp_path / "runs" / "plain" / "study-00000000"
    whole = (study / "study.json").read_text()
    for file, content in (("study.json", whole[:-9]), ("trial-000/trial.json", "")):
        (study / "study.json").write_text(whole)
        (study / file).write_text(content)
        report = analyse(*read_runs([tmp_path / "runs"], METRICS), METRICS, "NDCG@10", "plain")
        assert studies(report) == []
        assert any(str(study / file) in flag for flag in report.flags)
