"""Measures against literal loops over users, and worked by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from seqrec.report import statistics

RATIOS = np.array([0, 0.1, 0.3, 0.5])
VALUES = np.array([0.4, 0.36, 0.24, 0.12])


def test_retention_and_what_is_built_on_it():
    assert statistics.retention(VALUES) == pytest.approx([1, 0.9, 0.6, 0.3])
    # trapezoids .1 x .95, .2 x .75, .2 x .45 over a range of .5
    assert statistics.area(RATIOS, VALUES) == pytest.approx((0.095 + 0.15 + 0.09) / 0.5)
    assert statistics.slope(RATIOS, VALUES) == pytest.approx(np.polyfit(RATIOS, VALUES / 0.4, 1)[0])
    # half lies between .3 (.6 left) and .5 (.3 left), a third of the way
    assert statistics.half_point(RATIOS, VALUES) == pytest.approx(0.3 + 0.2 / 3)


def test_half_point_is_the_first_one_and_exact_at_a_ratio():
    assert statistics.half_point(np.array([0, 0.2, 0.4, 0.6]), np.array([1, 0.5, 0.8, 0.1])) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("values", "measures"),
    [
        ([0.4, 0.4, 0.4, 0.4], (1.0, 0.0, math.nan)),  # never at half
        ([0.4, math.nan, 0.2, 0.1], (math.nan, math.nan, math.nan)),  # a gap is not bridged
        ([math.nan, 0.3, 0.2, 0.1], (math.nan, math.nan, math.nan)),
        ([0.0, 0.3, 0.2, 0.1], (math.nan, math.nan, math.nan)),  # nothing to lose
    ],
)
def test_measures_that_do_not_exist_are_nan(values, measures):
    found = [
        measure(RATIOS, np.array(values)) for measure in (statistics.area, statistics.slope, statistics.half_point)
    ]
    assert found == pytest.approx(measures, nan_ok=True, abs=1e-12)


def test_one_ratio_has_no_area():
    assert math.isnan(statistics.area(RATIOS[:1], VALUES[:1]))
    assert math.isnan(statistics.slope(RATIOS[:1], VALUES[:1]))


def test_drop_avoided_is_nan_where_the_baseline_does_not_drop():
    own = np.array([0.5, 0.45, 0.25, 0.6])
    baseline = np.array([0.4, 0.32, 0.44, 0.2])
    # own drops .1, .5, -.2 against .2, -.1, .5; a gain under noise is not clipped
    assert statistics.drop_avoided(own, baseline) == pytest.approx([math.nan, 0.5, math.nan, 1.4], nan_ok=True)


def slow_signed_ranks(difference):
    """W+ and W- with mean ranks for ties, by counting."""
    difference = [d for d in difference if d != 0]
    plus = minus = 0.0
    for d in difference:
        below = sum(abs(e) < abs(d) for e in difference)
        same = sum(abs(e) == abs(d) for e in difference)
        rank = below + (same + 1) / 2
        plus, minus = (plus + rank, minus) if d > 0 else (plus, minus + rank)
    return plus, minus


@pytest.mark.parametrize("seed", range(5))
def test_compare_against_counting(seed):
    generator = np.random.default_rng(seed)
    values, baseline = (generator.integers(0, 5, 80) / 8 for _ in range(2))
    found = statistics.compare(values, baseline)
    difference = (values - baseline).tolist()
    plus, minus = slow_signed_ranks(difference)
    assert found["effect"] == pytest.approx((plus - minus) / (plus + minus))
    assert (found["users"], found["no difference"]) == (80, difference.count(0.0))
    assert found["mean difference"] == pytest.approx(sum(difference) / 80)
    variance = sum((d - sum(difference) / 80) ** 2 for d in difference) / 79
    assert found["detectable"] == pytest.approx((1.959963985 + 0.841621234) * math.sqrt(variance / 80))
    # the normal approximation of W with the correction for ties, from its definition
    changed = [abs(d) for d in difference if d != 0]
    size = len(changed)
    ties = sum(changed.count(v) ** 3 - changed.count(v) for v in set(changed))
    z = (min(plus, minus) - size * (size + 1) / 4) / math.sqrt(size * (size + 1) * (2 * size + 1) / 24 - ties / 48)
    assert found["p"] == pytest.approx(math.erfc(-z / math.sqrt(2)))


def test_compare_few_users_is_exact():
    values = np.array([0.9, 0.8, 0.7, 0.65, 0.1])
    baseline = np.array([0.1, 0.3, 0.5, 0.64, 0.2])
    plus, _ = slow_signed_ranks(np.round(values - baseline, 12))
    signs = [
        sum(rank for rank, up in zip(range(1, 6), ups, strict=True) if up)
        for ups in itertools.product((0, 1), repeat=5)
    ]
    p = 2 * sum(w >= plus for w in signs) / 32
    assert statistics.compare(values, baseline)["p"] == pytest.approx(p)
    assert statistics.compare(values, baseline)["p"] == pytest.approx(
        wilcoxon(values - baseline, method="exact").pvalue
    )


def test_compare_takes_rounding_for_no_difference():
    values = np.array([0.1 + 0.2, 0.5, 0.7])
    found = statistics.compare(values, np.array([0.3, 0.5, 0.7]))
    assert (found["no difference"], found["p"], found["effect"], found["detectable"]) == (3, 1.0, 0.0, 0.0)


def test_holm():
    # .01 x 4; .02 x 3; then max(.06, .03 x 2), .04 x 1 raised to it
    assert statistics.holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]
    assert statistics.holm(np.array([])).tolist() == []


def test_bootstrap_against_a_loop_over_draws():
    generator = np.random.default_rng(3)
    values = generator.random((30, 3))
    found = statistics.resampled(values, draws=250, seed=7)
    generator, means = np.random.default_rng(7), []
    for size in (100, 100, 50):
        for drawn in generator.integers(30, size=(size, 30)):
            means.append([sum(values[user, column] for user in drawn) / 30 for column in range(3)])
    assert found == pytest.approx(np.array(means))
    low, high = statistics.bootstrap(values)
    found = statistics.resampled(values, draws=1000, seed=0)
    assert low == pytest.approx(np.quantile(found, 0.025, axis=0))
    assert high == pytest.approx(np.quantile(found, 0.975, axis=0))


def test_bootstrap_band_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(5, 2, (4000, 1))
    low, high = statistics.bootstrap(values)
    assert (high - low)[0] == pytest.approx(2 * 1.96 * 2 / math.sqrt(4000), rel=0.1)
    assert low[0] < values.mean() < high[0]


def test_noise_floor():
    values = [np.array([0.2, 0.4]), np.array([0.3, 0.5]), np.array([0.2, 0.1])]
    floor = statistics.noise_floor(values)  # means .3, .4, .15
    mean = 0.85 / 3
    assert (floor["pairs"], floor["drop, mean"]) == (3, pytest.approx((0.1 + 0.15 + 0.25) / 3 / mean))
    assert floor["drop, largest"] == pytest.approx(0.25 / mean)
    assert floor["effect"] == pytest.approx(1.0)  # every pair moves all users that move the same way
    assert statistics.noise_floor(values[:1]) is None
    assert statistics.noise_floor([np.zeros(2), np.zeros(2)]) is None
