"""Recommendations of other systems beside our runs."""

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from job_setting import configure

from seqrec.build import load
from seqrec.commands import train as entry
from seqrec.commands.report import main
from seqrec.config import run_path
from seqrec.report import figures
from seqrec.report.analysis import analyse
from seqrec.report.lists import Listed, read_lists
from seqrec.report.write import collect
from seqrec.runs.reader import Run
from seqrec.utils.errors import UserError

METRICS = ["HR@5", "NDCG@10", "MRR"]
SMALL = (
    *("dataset.users=60", "dataset.items=120", "dataset.clusters=4", "dim=8", "trainer.progress=false"),
    *("trainer.max_epochs=1", "trainer.threads=1"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directories of two small runs."""
    paths = []
    outputs = tmp_path_factory.mktemp("outputs")
    for method in (["method=plain"], ["method=popularity", "backbone=none", "loss=none"]):
        config = configure(*SMALL, *method, f"output_dir={outputs}")
        paths.append(outputs / run_path(config))
        entry.job(config, paths[-1])
    return paths


@pytest.fixture(scope="module")
def recommended(finished):
    """The top 10 of each test user of the first run, raw ids, with score and rank."""
    experiment = load(finished[0])
    evaluator, dataset, test = experiment.evaluator, experiment.dataset, experiment.split.test
    chunks = []
    evaluator.ranks(
        experiment.scorer, test, experiment.fabric.device, lambda rows, scores, _: chunks.append((rows, scores.clone()))
    )
    lines = []
    for rows, scores in chunks:
        values, items = scores.topk(10, 1)
        for row, value, item in zip(rows, values.tolist(), items.numpy(), strict=True):
            ids = zip(dataset.item_ids[item].tolist(), value, range(1, 11), strict=True)
            lines += [(dataset.user_ids[test.user[row]], *line) for line in ids]
    return pd.DataFrame(lines, columns=["user", "item", "score", "rank"])


@pytest.fixture
def reference(finished):
    return Run(finished[0], METRICS)


LAYOUTS = {  # those of the libraries' documentation
    "scores.csv": lambda frame: frame[["user", "item", "score"]],
    "ranks.csv.gz": lambda frame: frame[["item", "rank", "user"]].sample(frac=1, random_state=0),
    "rectools.csv": lambda frame: frame.rename(columns={"user": "user_id", "item": "item_id"}),
    "recbole.tsv": lambda frame: frame[["user", "item", "score"]].set_axis(
        ["user_id:token", "item_id:token", "score"], axis=1
    ),
    "fromzero.csv": lambda frame: frame.assign(rank=frame["rank"] - 1).drop(columns="score"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_lists_of_a_run_have_its_metrics(name, recommended, reference, tmp_path):
    path = tmp_path / name
    LAYOUTS[name](recommended).to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    (row,) = read_lists([str(path)], [reference], METRICS, None)
    assert row.names["method"] == name.partition(".")[0]
    assert row.cannot == ["MRR"]
    for metric in METRICS[:2]:
        np.testing.assert_allclose(row.values[metric], reference.values[metric])


def test_ranks_of_a_run_have_its_metrics(reference, tmp_path):
    with np.load(reference.path / "ranks_test.npz") as ranks:
        shuffled = np.random.default_rng(0).permutation(len(ranks["user"]))
        np.savez(tmp_path / "r.npz", **{name: ranks[name][shuffled] for name in ranks})
    (row,) = read_lists([f"theirs={tmp_path / 'r.npz'}"], [reference], METRICS, None)
    assert (row.names["method"], row.cannot) == ("theirs", [])
    for metric in METRICS:
        np.testing.assert_allclose(row.values[metric], reference.values[metric])


def test_tied_scores_are_expectations(recommended, reference, tmp_path):
    tied = recommended.assign(score=recommended["rank"] > 4)
    tied.drop(columns="rank").astype({"score": int}).to_csv(tmp_path / "t.csv", index=False)
    (row,) = read_lists([str(tmp_path / "t.csv")], [reference], ["HR@5"], None)
    hits = recommended["rank"].to_numpy().reshape(-1, 10)
    target = dict(
        zip(*(np.load(reference.path / "ranks_test.npz")[name] for name in ("user_id", "target_id")), strict=True)
    )
    wanted = []
    for user, frame in recommended.groupby("user"):
        at = frame.loc[frame["item"] == target[user], "rank"].tolist()
        wanted.append((5 / 6 if at[0] > 4 else 0) if at else 0)  # six items share the first place
    assert hits.shape[1] == 10
    np.testing.assert_allclose(row.values["HR@5"], wanted)


def replaced(column, value):
    def change(frame, test):
        frame = frame.copy()
        frame[column] = frame[column].astype(object)
        frame.loc[3, column] = value(frame, test)
        return frame

    return change


SPOILT = {
    "an unknown item": replaced("item", lambda frame, test: "nothing"),
    "an item twice": replaced("item", lambda frame, test: frame["item"][1]),
    "an item of the history": replaced("item", lambda frame, test: test[frame["user"][3]]),
    "another user": replaced("user", lambda frame, test: "nobody"),
    "a user less": lambda frame, test: frame[frame["user"] != frame["user"][3]],
    "a shorter list": lambda frame, test: frame.drop(index=3),
    "no number": replaced("rank", lambda frame, test: "first"),
    "no rank and no score": lambda frame, test: frame[["user", "item"]],
}


@pytest.mark.parametrize("problem", SPOILT)
def test_what_does_not_answer_the_questions_is_refused(problem, recommended, reference, tmp_path):
    experiment = load(reference.path)
    dataset, test = experiment.dataset, experiment.split.test
    seen = {dataset.user_ids[user]: dataset.item_ids[dataset.items[dataset.offsets[user]]] for user in test.user}
    path = tmp_path / "other.csv"
    SPOILT[problem](recommended, seen).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"other\.csv"):
        read_lists([str(path)], [reference], METRICS, None)


def test_ranks_of_other_targets_and_damaged_files_are_refused(reference, tmp_path):
    ranks = dict(np.load(reference.path / "ranks_test.npz"))
    np.savez(tmp_path / "t.npz", **ranks | {"target_id": np.roll(ranks["target_id"], 1)})
    np.savez(tmp_path / "u.npz", **{name: values[1:] for name, values in ranks.items()})
    np.savez(tmp_path / "b.npz", **ranks | {"equal": ranks["equal"] * 0})
    (tmp_path / "d.npz").write_bytes(b"no archive")
    (tmp_path / "x.txt").write_text("user,item,rank\n")
    for name in ("t.npz", "u.npz", "b.npz", "d.npz", "x.txt"):
        with pytest.raises(UserError, match=name):
            read_lists([str(tmp_path / name)], [reference], METRICS, None)
    with pytest.raises(UserError, match="NAME=FILE"):
        read_lists([str(reference.path / "ranks_test.npz")] * 2, [reference], METRICS, None)
    with pytest.raises(UserError, match="plain"):  # one of our rows
        read_lists([f"plain={reference.path / 'ranks_test.npz'}"], [reference], METRICS, None)


def test_a_row_of_the_report_with_tests_against_ours(finished, recommended, tmp_path, monkeypatch):
    path = tmp_path / "theirs.csv"
    recommended.to_csv(path, index=False)
    monkeypatch.chdir(tmp_path)
    main([*map(str, finished), "--lists", str(path), "--metrics", "HR@10", "MRR", "--output", "out"])

    def lines(name):
        with (Path("out") / name).open() as stream:
            return list(csv.DictReader(stream))

    cells = {(line["row"], line["metric"]): line["mean"] for line in lines("table-clean.csv")}
    assert cells["theirs", "HR@10"] == cells["plain", "HR@10"]
    assert ("theirs", "MRR") not in cells
    assert ("plain", "MRR") in cells
    tests = {(line["row"], line["baseline"]): line for line in lines("significance-clean.csv")}
    assert set(tests) == {("popularity", "plain"), ("theirs", "plain"), ("theirs", "popularity")}
    assert float(tests["theirs", "plain"]["mean difference"]) == 0
    assert tests["theirs", "popularity"]["mean difference"] == str(
        -float(tests["popularity", "plain"]["mean difference"])
    )
    assert "MRR" in (Path("out") / "index.html").read_text()


def test_a_metric_of_more_items_than_the_lists_have_is_not_given(recommended, reference, tmp_path):
    short = recommended[recommended["rank"] <= 7]
    short.to_csv(tmp_path / "seven.csv", index=False)
    (row,) = read_lists([str(tmp_path / "seven.csv")], [reference], METRICS, None)
    assert row.cannot == ["NDCG@10", "MRR"]
    assert set(row.test) == {"HR@5"}


def test_a_row_without_a_metric_has_no_curve_of_it(shared_grid):
    runs, left_out = collect([shared_grid], ["HR@5", "MRR"])
    ranks = np.zeros(len(runs[0].values["MRR"]), np.int64)
    runs.append(Listed("another", runs[0], ranks, ranks + 1, 5, ["HR@5", "MRR"]))
    (table,) = analyse(runs, left_out, ["HR@5", "MRR"], "HR@5", "plain").tables
    assert {row.label for row in table.rows} == {"plain", "cat", "popularity", "another"}
    assert set(re.findall(r'class="curve" data-row="(\w+)"', figures.curves(table, "MRR", None))) == {
        "plain",
        "cat",
        "popularity",
    }
