"""eval.metrics from the command line to metrics.json, evaluation, robustness and report; runs that are older than the key."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from job_setting import configure
from omegaconf import OmegaConf
from robustness_setting import Case

from seqrec.build import build, load
from seqrec.commands import train
from seqrec.config import YOUNGER_KEYS, config_hash, identity, with_younger_keys
from seqrec.data.synthetic import Synthetic
from seqrec.evaluation import evaluator as evaluation
from seqrec.evaluation.metrics import METRICS, check_monitor, columns, list_metric, rank_metric
from seqrec.utils.errors import UserError

ROOT = Path(__file__).parents[1]
SMALL = ["method=markov", "dataset.users=80", "dataset.items=100", "dataset.clusters=6", "eval.cutoffs=[5,10]"]
LISTS = ["Coverage", "Gini", "ARP", "Novelty"]
CHOSEN = ["NDCG", "MAP", *LISTS]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of other metrics than the default."""
    folder = tmp_path_factory.mktemp("runs") / "chosen"
    train.job(configure(*SMALL, f"eval.metrics=[{','.join(CHOSEN)}]"), folder)
    return folder


def literal(experiment):
    """List metrics at 5 and 10 by loops over the users of the test set and the items of the catalogue."""
    test, items = experiment.split.test, experiment.dataset.num_items
    bought = Counter(item for user in range(len(experiment.split.train)) for item in row(experiment.split.train, user))
    watched = {}
    experiment.evaluator.ranks(
        experiment.method, test, CPU, lambda rows, scores, _: watched.update(zip(rows, scores.tolist(), strict=True))
    )
    values = {}
    for k in (5, 10):
        lists = []
        for user in range(len(test.user)):
            owned = set(row(test.history, user))
            candidates = [item for item in range(1, items + 1) if item not in owned]
            lists.append(sorted(candidates, key=lambda item: (-watched[user][item], item))[:k])
        shown = [sum(item in best for best in lists) for item in range(1, items + 1)]
        values[f"Coverage@{k}"] = sum(count > 0 for count in shown) / items
        values[f"Gini@{k}"] = sum(abs(a - b) for a in shown for b in shown) / (2 * items * sum(shown))
        flat = [item for best in lists for item in best]
        values[f"ARP@{k}"] = sum(bought[item] for item in flat) / len(flat)
        everything = sum(bought.values()) + items
        values[f"Novelty@{k}"] = -sum(math.log2((bought[item] + 1) / everything) for item in flat) / len(flat)
    return values


def without_the_key(config):
    """Return the configuration as code without eval.metrics wrote it."""
    values = OmegaConf.to_container(config)
    del values["eval"]["metrics"]
    return OmegaConf.create(values)


def row(sequences, number):
    return sequences.items[sequences.start[number] : sequences.stop[number]].tolist()


def test_a_run_has_the_chosen_metrics_and_lists_are_those_of_a_slow_ranking(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics["test"]) == columns(CHOSEN, [5, 10])
    assert list(metrics["valid"]) == columns(["NDCG", "MAP"], [5, 10])
    expected = literal(load(folder))
    assert {name: metrics["test"][name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("mask_history", [True, False])
def test_lists_do_not_depend_on_the_size_of_chunks(mask_history, monkeypatch):
    experiment = build(configure(*SMALL, "eval.metrics=[HR,Gini]", f"eval.mask_history={mask_history}"))
    whole = experiment.evaluator.ranks(experiment.method, experiment.split.test, CPU, lists=True).lists
    monkeypatch.setattr(evaluation, "SCORES_AT_ONCE", 1)
    pieces = experiment.evaluator.ranks(experiment.method, experiment.split.test, CPU, lists=True).lists
    assert np.array_equal(whole, pieces)
    assert whole.shape == (len(experiment.split.test.user), 10)
    assert whole.dtype == np.int32


def test_no_list_is_made_where_no_metric_needs_one(monkeypatch):
    monkeypatch.setattr(evaluation, "top_lists", lambda *_: pytest.fail("a list was made"))
    default, chosen = (build(configure(*SMALL, *more)) for more in ([], ["eval.metrics=[HR,Gini]"]))
    assert default.evaluator.ranks(default.method, default.split.test, CPU, lists=True).lists is None
    assert chosen.evaluator.ranks(chosen.method, chosen.split.valid, CPU).lists is None


def shown(name, *arguments):
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_the_commands_read_a_run_of_chosen_metrics(folder, tmp_path):
    evaluated = shown("evaluate", folder).stdout.split()
    recorded = json.loads((folder / "metrics.json").read_text())["test"]
    found = dict(zip(evaluated[::2], map(float, evaluated[1::2]), strict=True))
    assert found == pytest.approx(recorded, abs=1e-6)
    assert list(found) == list(recorded)
    train.job(configure(*SMALL, f"eval.metrics=[{','.join(CHOSEN)}]", "seed=2"), folder.with_name("second"))
    output = ["--output", tmp_path / "report"]
    reported = shown("report", folder.parent, *output, "--metrics", "NDCG@10", "MAP@5", "--tested", "MAP@5")
    assert reported.returncode == 0, reported.stderr
    assert not (tmp_path / "report" / "left-out.csv").read_text().splitlines()[1:]
    refused = shown("report", folder.parent, *output, "--metrics", "Gini@10", "--tested", "Gini@10")
    assert refused.returncode == 1
    assert "Gini@10" in refused.stderr
    assert "per user" in refused.stderr


@pytest.mark.slow
def test_the_report_has_runs_from_before_the_key_in_the_row_of_later_ones(tmp_path):
    for seed in (1, 2):
        train.job(configure(*SMALL, f"seed={seed}", "dataset.seed=1"), tmp_path / "runs" / str(seed))
    path = tmp_path / "runs" / "1" / "config.yaml"
    OmegaConf.save(without_the_key(OmegaConf.load(path)), path)
    assert shown("report", tmp_path / "runs", "--output", tmp_path / "report").returncode == 0
    table = (tmp_path / "report" / "table-clean.md").read_text()
    assert sum(line.startswith("| markov") for line in table.splitlines()) == 1
    assert "(2)" in table


def test_robustness_has_the_chosen_metrics():
    case = Case("markov")
    default = case.perturbed.measures(case.perturbed.clean, np.arange(0))
    assert [name for name in default if name.endswith("@5")][:2] == ["HR@5", "NDCG@5"]
    assert not {name.partition("@")[0] for name in default} & {"MRR", *LISTS}
    case.evaluator.metric_names = ["MAP", "Gini", "MRR"]
    worse = replace(case.perturbed.clean, better=case.perturbed.clean.better + 1)
    found = case.perturbed.measures(worse, np.arange(0))
    clean = case.perturbed.measures(case.perturbed.clean, np.arange(0))
    before, after = (
        METRICS["MAP"].of_ranks(outcome.better, outcome.equal, 5).mean() for outcome in (case.perturbed.clean, worse)
    )
    assert found["MAP@5"] == pytest.approx(after)
    assert found["MAP@5 drop"] == pytest.approx((before - after) / before)
    assert found["Gini@5"] == METRICS["Gini"].of_lists(case.perturbed.clean.lists, case.evaluator.counts)
    assert "HR@5" not in found
    assert clean["MAP@5 drop"] == 0


def test_robustness_keeps_the_rule_of_ties():
    case = Case("popularity")
    outcome = case.perturbed.clean
    outcome.equal[:] = 7
    case.evaluator.ties = "pessimistic"
    assert case.perturbed.measures(outcome, np.arange(0))["HR@5"] == np.mean(outcome.better + 7 <= 5)


@pytest.fixture
def mean_rank():
    """A new metric that is lower where it is better, as a stranger would add it: by one entry."""

    @rank_metric("MeanRank", cutoff=False, higher_is_better=False)
    def function(better, equal):
        return better + (equal + 1) / 2

    yield "MeanRank"
    del METRICS["MeanRank"]


def test_one_entry_makes_a_metric(mean_rank, tmp_path):
    train.job(configure(*SMALL, "eval.metrics=[NDCG,MeanRank]"), tmp_path / "run")
    with np.load(tmp_path / "run" / "ranks_test.npz") as ranks:
        expected = ranks["rank"].mean()
    recorded = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert recorded["MeanRank"] == pytest.approx(expected)
    with pytest.raises(UserError, match=r"trainer\.monitor=MeanRank"):
        check_monitor("MeanRank", ["NDCG", "MeanRank"], [10])
    with pytest.raises(UserError, match=r"trainer\.monitor=MeanRank"):
        check_monitor("MeanRank", ["MeanRank"], [10])


@pytest.mark.parametrize(
    ("register", "function"),
    [
        (rank_metric("Wrong"), lambda better, equal: better),
        (rank_metric("Wrong", cutoff=False), lambda better, equal, k: better),
        (list_metric("Wrong"), lambda lists: 0.0),
        (list_metric("Wrong"), lambda lists, counts, users: 0.0),
    ],
)
def test_a_metric_of_other_arguments_is_refused_before_training(monkeypatch, tmp_path, register, function):
    monkeypatch.setattr(Synthetic, "load", lambda *_: pytest.fail("the data were read"))
    monkeypatch.setitem(METRICS, "Wrong", None)  # and taken away again
    register(function)
    with pytest.raises(UserError, match=r"eval\.metrics=Wrong: .*lambda"):
        train.job(configure(*SMALL, "eval.metrics=[NDCG,Wrong]"), tmp_path / "run")


def test_the_help_lists_the_registry():
    text = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert ", ".join(METRICS) in text


def test_the_hash_leaves_out_younger_keys_at_their_first_value_alone():
    now = configure(*SMALL)
    earlier = without_the_key(now)
    assert config_hash(earlier) == config_hash(now)
    assert config_hash(configure(*SMALL, "eval.metrics=[HR,NDCG]")) != config_hash(now)
    assert with_younger_keys(earlier) == now


def test_a_younger_key_may_be_of_a_group_that_earlier_runs_lack(monkeypatch):
    earlier = OmegaConf.create(OmegaConf.to_container(configure(*SMALL)))
    before = config_hash(earlier)
    monkeypatch.setattr(identity, "YOUNGER_KEYS", {**YOUNGER_KEYS, "mixing.weight": 0.0, "mixing.name": "none"})
    assert config_hash(earlier) == before
    filled = with_younger_keys(earlier.copy())
    assert filled.mixing == {"weight": 0.0, "name": "none"}
    filled.mixing.weight = 0.5
    assert config_hash(filled) != before


def test_lists_longer_than_the_candidates_of_a_user_are_refused_before_training(tmp_path):
    def of(cutoff, *overrides):
        lists = ("eval.metrics=[HR,NDCG,MRR,Coverage]", f"eval.cutoffs=[{cutoff}]", *overrides)
        return build(configure("dataset.users=150", "dataset.items=110", "dataset.clusters=6", *lists))

    history = of(10).split.test.history
    most = max(len(set(history.items[history.start[row] : history.stop[row]].tolist())) for row in range(len(history)))
    assert of(110 - most).evaluator.cutoffs == [110 - most]
    with pytest.raises(UserError, match=r"eval\.cutoffs"):
        of(110 - most + 1)
    of(110, "eval.mask_history=false")


def test_a_run_from_before_the_key_is_loaded_with_what_it_computed(tmp_path):
    folder = tmp_path / "run"
    train.job(configure(*SMALL), folder)
    OmegaConf.save(without_the_key(OmegaConf.load(folder / "config.yaml")), folder / "config.yaml")
    written = shutil.copy(folder / "metrics.json", tmp_path)
    train.job(configure(*SMALL), folder)  # complete already
    assert load(folder).evaluator.metric_names == ["HR", "NDCG", "MRR"]
    with pytest.raises(UserError, match="run of another configuration"):
        train.job(configure(*SMALL, "eval.metrics=[NDCG]"), folder)
    assert (folder / "metrics.json").read_bytes() == (tmp_path / "metrics.json").read_bytes(), written
