"""Metrics against an outside tool, against all orders of tied items, and against what must hold anyhow."""

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Qrel, ScoredDoc, Success, nDCG

from seqrec.evaluation.metrics import (
    METRICS,
    TIES,
    columns,
    hit_rate,
    longest_list,
    ndcg,
    per_user,
    reciprocal_rank,
    settle_ties,
    summarise,
)
from seqrec.utils.errors import UserError

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


def test_summary_is_a_mean_over_users():
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


ITEMS = 12
LISTS = np.array([[1, 2, 3], [1, 4, 2], [1, 2, 12], [5, 1, 2]])
COUNTS = np.array([0, 9, 4, 3, 1, 0, 2, 2, 5, 1, 1, 3, 0])


def literal_of_ranks(name, ranks, k):
    """Each rank metric of equally likely ranks of one relevant item, from its textbook definition."""
    values = []
    for rank in ranks:
        relevant = [position == rank for position in range(1, k + 1)]
        hits = sum(relevant)
        precisions = [sum(relevant[: position + 1]) / (position + 1) for position in range(k) if relevant[position]]
        values.append(
            {"Recall": hits / 1, "Precision": hits / k, "MAP": sum(precisions) / 1, "HR": float(hits > 0)}[name]
        )
    return sum(values) / len(values)


@pytest.mark.parametrize("name", ["HR", "Recall", "Precision", "MAP"])
@pytest.mark.parametrize(("better", "equal"), [(0, 1), (2, 1), (2, 4), (4, 1), (5, 3), (9, 1)])
def test_rank_metrics_are_their_definition(name, better, equal):
    for k in (1, 3, 5, 8):
        expected = literal_of_ranks(name, range(better + 1, better + equal + 1), k)
        assert per_user(f"{name}@{k}", np.array([better]), np.array([equal]))[0] == pytest.approx(expected)


def literal_of_lists(name):
    shown = [sum(item in row for row in LISTS.tolist()) for item in range(1, ITEMS + 1)]
    recommended = [item for row in LISTS.tolist() for item in row]
    if name == "Coverage":
        return sum(count > 0 for count in shown) / ITEMS
    if name == "Gini":  # mean absolute difference over twice the mean
        differences = sum(abs(a - b) for a in shown for b in shown) / ITEMS**2
        return differences / (2 * sum(shown) / ITEMS)
    if name == "ARP":
        return sum(int(COUNTS[item]) for item in recommended) / len(recommended)
    total = sum(COUNTS) + ITEMS
    return sum(-math.log2((COUNTS[item] + 1) / total) for item in recommended) / len(recommended)


@pytest.mark.parametrize("name", ["Coverage", "Gini", "ARP", "Novelty"])
def test_list_metrics_are_their_definition(name):
    assert METRICS[name].of_lists(LISTS, COUNTS) == pytest.approx(literal_of_lists(name))
    assert METRICS[name].of_lists(LISTS[::-1], COUNTS) == pytest.approx(literal_of_lists(name))


def test_list_metrics_look_at_the_first_k_alone():
    one = np.ones(4, int)
    values = summarise(one, one, [1, 3], "expected", ["HR", "Coverage"], LISTS, COUNTS)
    assert values["Coverage@1"] == pytest.approx(2 / ITEMS)
    assert values["Coverage@3"] == pytest.approx(literal_of_lists("Coverage"))
    assert list(values) == ["HR@1", "Coverage@1", "HR@3", "Coverage@3"]
    assert list(summarise(one, one, [1], "expected", ["HR", "Coverage"])) == ["HR@1"]


def test_lists_are_made_only_where_a_metric_needs_them():
    assert longest_list(["HR", "NDCG", "MRR"], [5, 10]) == 0
    assert longest_list(["HR", "Gini"], [5, 10]) == 10


def test_equal_shares_have_no_inequality():
    assert METRICS["Gini"].of_lists(np.arange(1, ITEMS + 1).reshape(4, 3), COUNTS) == pytest.approx(0)
    assert METRICS["Gini"].of_lists(np.ones((4, 1), int), COUNTS) == pytest.approx(1 - 1 / ITEMS)


@pytest.mark.parametrize("column", ["Foo@10", "NDCG", "NDCG@0", "NDCG@x", "MRR@10", "Gini@10"])
def test_an_unknown_metric_has_no_value_per_user(column):
    with pytest.raises(UserError, match="metric"):
        per_user(column, np.array([0]), np.array([1]))


def test_columns_are_in_order():
    assert columns(["HR", "MRR", "NDCG"], [5, 10]) == ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR"]
