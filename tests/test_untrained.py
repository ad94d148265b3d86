"""The counting baselines against loops, and against known figures of real data."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from job_setting import configure

from seqrec.batch import Batch
from seqrec.build import build, load
from seqrec.commands import train as entry
from seqrec.methods.itemknn import ItemKNN
from seqrec.methods.markov import CANDIDATE_DECAYS, Markov
from seqrec.methods.popularity import Popularity

ITEMS, MAX_LEN = 13, 6
SMALL = ("dataset.users=120", "dataset.items=110", "dataset.clusters=6")


@pytest.fixture
def rows():
    """Users of 0 to 9 items, with repeats."""
    generator = np.random.default_rng(3)
    skewed = np.arange(1, ITEMS + 1) / sum(range(1, ITEMS + 1))
    return [generator.choice(ITEMS, generator.integers(0, 10), p=skewed) + 1 for _ in range(300)]


@pytest.fixture
def train(rows, sequences_of):
    return sequences_of([row.tolist() for row in rows])


HISTORIES = [[3], [12, 13], [5, 5, 9], [1, 2, 3, 4, 5, 6], [13, 11, 13, 10], []]


def ask(histories=HISTORIES):
    """Return a batch with these inputs."""
    seq = torch.tensor([[0] * (MAX_LEN - len(history)) + history for history in histories])
    return Batch(torch.arange(len(seq)), seq, torch.zeros_like(seq), torch.full_like(seq, -1))


def scores_of(method, train):
    method.setup(train)
    scores = method.score(ask())
    assert scores.shape == (len(HISTORIES), ITEMS + 1)
    return scores.double().numpy()


def test_popularity(rows, train):
    counts = Counter(item for row in rows for item in row)
    expected = [[counts[item] for item in range(ITEMS + 1)]] * len(HISTORIES)
    method = Popularity(ITEMS, MAX_LEN)
    assert scores_of(method, train).tolist() == expected
    method.score(ask()).fill_(-1)  # the evaluator overwrites scores
    assert method.score(ask()).tolist() == expected


@pytest.mark.parametrize("window", [1, 3, 20])
@pytest.mark.parametrize("decay", [0.8, 1.0])
@pytest.mark.parametrize(("history", "history_decay"), [(1, 0.5), (3, 0.5), (10, 0.7), (10, 0.0), (10, 1.0)])
def test_markov(rows, train, window, decay, history, history_decay):
    transitions = np.zeros((ITEMS + 1, ITEMS + 1))
    for row in rows:
        for first in range(len(row)):
            for second in range(first + 1, len(row)):
                if second - first <= window:
                    transitions[row[first], row[second]] += decay ** (second - first - 1)
    expected = np.zeros((len(HISTORIES), ITEMS + 1))
    for number, items in enumerate(HISTORIES):
        for age, item in enumerate(items[::-1]):
            if age < history:
                expected[number] += history_decay**age * transitions[item]
    method = Markov(ITEMS, MAX_LEN, window, decay, history, history_decay)
    np.testing.assert_allclose(scores_of(method, train), expected, rtol=1e-5)
    assert expected[-2].any()
    assert not expected[-1].any()


def test_markov_takes_the_decay_that_is_best_on_validation():
    method = Markov(ITEMS, MAX_LEN, 20, 0.8, 10, "auto")
    values = dict(zip(CANDIDATE_DECAYS, (0.1, 0.4, 0.2, 0.4, 0.3), strict=True))
    tried = []

    def evaluate():
        tried.append(method.history_decay)
        return values[method.history_decay]

    assert method.tune_on_validation(evaluate) == "method.history_decay=0.3 is best on validation"
    assert method.history_decay == 0.3
    assert tried == list(CANDIDATE_DECAYS) == [0.0, 0.3, 0.5, 0.7, 0.9]
    fixed = Markov(ITEMS, MAX_LEN, 20, 0.8, 10, 0.5)
    assert fixed.tune_on_validation(lambda: pytest.fail("nothing is open")) == ""
    assert fixed.history_decay == 0.5


def test_a_finished_run_that_chose_its_decay_is_loaded_with_it(tmp_path):
    # counting needs no accelerator, and there is none here
    config = configure(*SMALL, "method=markov", "method.history_decay=auto", "trainer.accelerator=gpu")
    entry.job(config, tmp_path / "run")
    experiment = load(tmp_path / "run")
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, torch.device("cpu"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert experiment.evaluator.metrics(ranks) == pytest.approx(metrics["test"])


@pytest.mark.parametrize("shrink", [0.0, 10.0])
@pytest.mark.parametrize("neighbours", [1, 3, 200])
def test_itemknn(rows, train, neighbours, shrink):
    users = [{user for user, row in enumerate(rows) if item in row} for item in range(ITEMS + 1)]
    similarity = np.zeros((ITEMS + 1, ITEMS + 1))
    for item in range(1, ITEMS + 1):
        for other in range(1, ITEMS + 1):
            if item != other:
                norm = math.sqrt(len(users[item]) * len(users[other]))
                similarity[item, other] = len(users[item] & users[other]) / (norm + shrink)
    expected = np.zeros((len(HISTORIES), ITEMS + 1))
    for item in range(1, ITEMS + 1):
        nearest = sorted(range(ITEMS + 1), key=lambda other: -similarity[item, other])
        if neighbours < ITEMS:
            last, next_one = similarity[item, nearest[neighbours - 1 : neighbours + 1]]
            assert last > next_one + 1e-6  # or else the cut would be a matter of taste
        for number, items in enumerate(HISTORIES):
            expected[number, item] = sum(similarity[item, other] for other in set(items) & set(nearest[:neighbours]))
    np.testing.assert_allclose(scores_of(ItemKNN(ITEMS, MAX_LEN, neighbours, shrink), train), expected, rtol=1e-5)
    assert expected.any()


KNOWN = [
    ("beauty", "popularity", [], 0.01147, 0.00544),
    ("beauty", "markov", [], 0.0753, 0.0489),
    ("beauty", "markov", ["method.history_decay=0.5"], 0.0843, 0.0525),
    pytest.param("sports", "markov", [], 0.0431, 0.0279, marks=pytest.mark.slow),
    pytest.param("sports", "markov", ["method.history_decay=0.5"], 0.0540, 0.0331, marks=pytest.mark.slow),
]


@pytest.mark.skipif("SEQREC_DATA" not in os.environ, reason="SEQREC_DATA does not say where the real files lie")
@pytest.mark.parametrize(("dataset", "method", "overrides", "hit_rate", "ndcg"), KNOWN)
def test_known_figures_of_real_data(dataset, method, overrides, hit_rate, ndcg, tmp_path):
    common = [f"dataset={dataset}", f"method={method}", f"cache_dir={tmp_path}", "trainer.accelerator=cpu"]
    config = configure(*common, *overrides)
    if not (Path(config.data_dir) / config.dataset.file).exists():
        pytest.skip(f"{config.dataset.file} is not in SEQREC_DATA")
    experiment = build(config)
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, torch.device("cpu"))
    metrics = experiment.evaluator.metrics(ranks)
    assert metrics["HR@10"] == pytest.approx(hit_rate, rel=0.01)
    assert metrics["NDCG@10"] == pytest.approx(ndcg, rel=0.01)
