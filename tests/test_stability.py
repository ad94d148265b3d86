"""Stability measures against slow readings of their definitions."""

import math

import numpy as np
import pytest

from seqrec.evaluation.list_stability import frbo, jaccard, lost, over_draws, rank_shift, relative_drop, worst_hit


@pytest.fixture
def lists():
    """Two times 60 lists of 7 of 12 items, that overlap more or less."""
    generator = np.random.default_rng(0)
    return tuple(np.stack([generator.permutation(12)[:7] + 1 for _ in range(60)]) for _ in range(2))


def slow_frbo(one, other, p):
    total, size = 0.0, len(one)
    for depth in range(1, size + 1):
        total += p ** (depth - 1) * len(set(one[:depth]) & set(other[:depth])) / depth
    return (1 - p) / (1 - p**size) * total


def test_jaccard_is_the_share_of_common_items(lists):
    slow = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(*lists, strict=True)]
    assert len(set(slow)) > 3
    assert jaccard(*lists).tolist() == pytest.approx(slow)


@pytest.mark.parametrize("p", [0.9, 0.5])
def test_frbo_is_the_weighted_mean_of_overlaps_by_depth(lists, p):
    slow = [slow_frbo(a.tolist(), b.tolist(), p) for a, b in zip(*lists, strict=True)]
    assert frbo(*lists, p).tolist() == pytest.approx(slow)


def test_equal_lists_give_one_and_disjoint_ones_give_zero(lists):
    one = lists[0]
    assert frbo(one, one).tolist() == pytest.approx([1] * 60)
    assert jaccard(one, one).tolist() == [1] * 60
    assert frbo(one, one + 12).tolist() == jaccard(one, one + 12).tolist() == [0] * 60


def test_by_hand():
    clean, perturbed = np.array([[1, 2]]), np.array([[2, 3]])
    assert jaccard(clean, perturbed).tolist() == [1 / 3]
    # nothing in common at depth 1, one of two at depth 2; weights .1 / .19 and .09 / .19
    assert frbo(clean, perturbed).tolist() == pytest.approx([0.09 / 0.19 * 0.5])
    assert frbo(clean, perturbed).tolist() == frbo(clean, perturbed, 0.9).tolist()
    # one list upside down: the same set, but not the same first place
    assert jaccard(clean, clean[:, ::-1]).tolist() == [1]
    assert frbo(clean, clean[:, ::-1]).tolist() == pytest.approx([0.09 / 0.19])


def test_rank_shift_is_positive_where_the_target_falls():
    assert rank_shift(np.array([1, 3, 7.5]), np.array([3, 1, 7.5])).tolist() == [1, -1, 0]


def test_lost_and_won_make_up_the_change_and_ties_count_in_part():
    before, after = np.array([1, 0, 0.5, 1, 0]), np.array([0, 1, 0.25, 1, 0])
    assert lost(before, after) == pytest.approx(1.25 / 5)
    assert lost(after, before) == pytest.approx(1 / 5)
    assert after.mean() == pytest.approx(before.mean() - lost(before, after) + lost(after, before))


def test_relative_drop_is_that_of_the_means_and_nothing_where_there_is_no_mean():
    assert relative_drop(np.array([1, 0.5, 0]), np.array([0.5, 0, 0.25])) == pytest.approx(0.5)
    assert relative_drop(np.array([0.5, 0]), np.array([0.5, 0.5])) == -1  # a gain is a negative drop, not 0
    assert math.isnan(relative_drop(np.zeros(2), np.ones(2)))
    assert math.isnan(relative_drop(np.zeros(0), np.zeros(0)))


def test_worst_hit_are_those_who_lose_most():
    before = np.array([1.0, 0.9, 0.2, 0.0, 0.5, 0.6, 0.0, 0.1, 0.0, 0.3, 0.4])
    after = np.array([0.9, 0.1, 0.0, 0.0, 0.5, 0.0, 0.7, 0.1, 0.0, 0.3, 0.4])
    # 11 users: ceil(1.1) = 2 of them, the second (loses .8) and the sixth (loses .6)
    assert worst_hit(before, after) == pytest.approx((0.05, 0.7))
    assert worst_hit(before, after, share=1) == pytest.approx((after.mean(), (before - after).mean()))
    assert worst_hit(np.array([0.75, 0.5, 1.0]), np.array([0.5, 0.25, 0.75]), share=0.5) == (0.375, 0.25)


def test_over_draws_gives_mean_and_sample_deviation():
    values = [{"a": value, "b": math.nan} for value in (1.0, 2.0, 6.0)]
    mean, deviation = over_draws(values)
    assert mean["a"] == pytest.approx(3)
    assert deviation["a"] == pytest.approx(math.sqrt(7))
    assert math.isnan(mean["b"])
    assert math.isnan(deviation["b"])
    assert math.isnan(over_draws(values[:1])[1]["a"])


def test_equal_draws_have_their_own_mean_to_the_last_bit():
    value = 0.11140823576222508
    assert over_draws([{"a": value}] * 5) == ({"a": value}, {"a": 0.0})
