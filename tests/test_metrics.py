"""Metrics against an outside tool, against all orders of tied items, and against what must hold anyhow."""

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Qrel, ScoredDoc, Success, nDCG

from seqrec.evaluation.metrics import TIES, hit_rate, ndcg, reciprocal_rank, settle_ties, summarise

CUTOFFS = (1, 2, 5, 10, 50)


def place_metrics(place, k):
    """HR@k, NDCG@k and the reciprocal rank of a target at a place, from 1."""
    return np.array([place <= k, 1 / math.log2(place + 1) if place <= k else 0, 1 / place])


def ours(better, equal, k):
    better, equal = np.array([better]), np.array([equal])
    return np.array([hit_rate(better, equal, k), ndcg(better, equal, k), reciprocal_rank(better, equal)])[:, 0]


def counts(scores, target):
    return int((scores > scores[target]).sum()), int((scores == scores[target]).sum())


def test_an_outside_tool_agrees_where_nothing_is_tied():
    generator = np.random.default_rng(0)
    scores = generator.permuted(np.tile(np.arange(60.0), (40, 1)), axis=1)
    target = generator.integers(0, 60, 40)
    better = np.array([counts(row, at)[0] for row, at in zip(scores, target, strict=True)])
    equal = np.ones_like(better)
    relevant = [Qrel(str(row), str(at), 1) for row, at in enumerate(target)]
    run = [ScoredDoc(str(row), str(item), score) for row, line in enumerate(scores) for item, score in enumerate(line)]
    values = {RR: reciprocal_rank(better, equal)}
    for k in CUTOFFS:
        values[Success @ k], values[nDCG @ k] = hit_rate(better, equal, k), ndcg(better, equal, k)
    met = 0
    for measured in ir_measures.iter_calc(list(values), relevant, run):
        assert values[measured.measure][int(measured.query_id)] == pytest.approx(measured.value, abs=1e-12)
        met += 1
    assert met == len(values) * 40
    totals = ir_measures.calc_aggregate(list(values), relevant, run)
    summary = summarise(better, equal, list(CUTOFFS), "expected")
    names = {RR: "MRR"} | {Success @ k: f"HR@{k}" for k in CUTOFFS} | {nDCG @ k: f"NDCG@{k}" for k in CUTOFFS}
    assert summary == pytest.approx({name: totals[measure] for measure, name in names.items()})


@pytest.mark.parametrize("scores", [(1, 1, 1, 1), (3, 1, 1, 1, 0), (5, 5, 2, 2, 2, 1), (2, 1), (7, 7, 7, 1, 1, 0)])
def test_expectation_over_all_orders_of_tied_items(scores):
    scores = np.array(scores)
    for target, k in itertools.product(range(len(scores)), (1, 2, 3, len(scores), 10)):
        places = []
        for order in itertools.permutations(range(len(scores))):
            ranking = sorted(order, key=lambda item: -scores[item])  # stable: ties stay as permuted
            places.append(ranking.index(target) + 1)
        mean = np.mean([place_metrics(place, k) for place in places], 0)
        better, equal = counts(scores, target)
        np.testing.assert_allclose(ours(better, equal, k), mean)
        for rule, place in (("pessimistic", max(places)), ("optimistic", min(places))):
            settled = settle_ties(np.array([better]), np.array([equal]), rule)
            np.testing.assert_allclose(ours(settled[0][0], settled[1][0], k), place_metrics(place, k))


def test_by_hand():
    better, equal = np.array([0, 3, 9, 10]), np.array([1, 4, 2, 1])
    np.testing.assert_allclose(hit_rate(better, equal, 5), [1, 0.5, 0, 0])
    np.testing.assert_allclose(hit_rate(better, equal, 10), [1, 1, 0.5, 0])
    np.testing.assert_allclose(ndcg(better, equal, 10)[[0, 2, 3]], [1, 0.5 / math.log2(11), 0])
    np.testing.assert_allclose(ndcg(better, equal, 5)[1], (1 / math.log2(5) + 1 / math.log2(6)) / 4)
    np.testing.assert_allclose(
        reciprocal_rank(better, equal), [1, (1 / 4 + 1 / 5 + 1 / 6 + 1 / 7) / 4, 0.5 * (0.1 + 1 / 11), 1 / 11]
    )


@pytest.mark.parametrize("candidates", [5, 40])
def test_a_constant_scorer_gets_k_out_of_the_candidates(candidates):
    summary = summarise(np.zeros(3, int), np.full(3, candidates), [1, 5], "expected")
    assert summary["HR@1"] == pytest.approx(1 / candidates)
    assert summary["HR@5"] == pytest.approx(5 / candidates)
    assert summary["NDCG@5"] == pytest.approx(sum(1 / math.log2(place + 1) for place in range(1, 6)) / candidates)
    assert summary["MRR"] == pytest.approx(sum(1 / place for place in range(1, candidates + 1)) / candidates)
    assert summarise(np.zeros(3, int), np.full(3, candidates), [1], "optimistic")["HR@1"] == 1
    assert (
        summarise(np.zeros(3, int), np.full(3, candidates), [candidates - 1], "pessimistic")[f"HR@{candidates - 1}"]
        == 0
    )


def test_summary_is_a_mean_over_questions():
    better, equal = np.array([0, 5, 2]), np.array([1, 1, 4])
    summary = summarise(better, equal, [3], "expected")
    assert list(summary) == ["HR@3", "NDCG@3", "MRR"]
    each = np.mean([ours(b, e, 3) for b, e in zip(better, equal, strict=True)], 0)
    assert list(summary.values()) == pytest.approx(each.tolist())
    assert all(type(value) is float for value in summary.values())


@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 80))
def test_properties(better, equal, k):
    hit, gain, reciprocal = ours(better, equal, k)
    assert 0 <= gain <= hit <= 1 + 1e-12
    assert 1 / (better + equal) <= reciprocal * (1 + 1e-9)
    assert reciprocal <= 1 / (better + 1) * (1 + 1e-9)
    wider, worse = ours(better, equal, k + 1), ours(better + 1, equal, k)
    assert (wider[:2] >= [hit, gain - 1e-12]).all()
    assert (worse <= np.array([hit, gain, reciprocal]) + 1e-12).all()
    if better + equal <= k:
        assert hit == 1
    rules = [
        summarise(np.array([better]), np.array([equal]), [k], rule)
        for rule in ("pessimistic", "expected", "optimistic")
    ]
    assert set(TIES) == {"pessimistic", "expected", "optimistic"}
    for low, high in itertools.pairwise(rules):
        assert all(low[name] <= high[name] + 1e-12 for name in low)
