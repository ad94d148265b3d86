"""The report's measures as pure functions on arrays; docs/report.md defines them."""

from itertools import combinations

import numpy as np
from scipy.stats import norm, rankdata, wilcoxon

LEVEL = 0.05
POWER = 0.8
DRAWS = 1000  # of users, in bootstraps
DECIMALS = 12  # averages of the same numbers in another order differ by rounding, which is not a difference


def retention(values: np.ndarray) -> np.ndarray:
    """Return M(r) / M(0) for values M(r) [N], the clean one first; NaN where there is no clean one above 0."""
    return values / values[0] if values[0] > 0 else np.full(len(values), np.nan)


def area(ratios: np.ndarray, values: np.ndarray) -> float:
    """Return the area under M over r by the trapezoid rule, divided by M(0) and the range of r: 1 without any loss."""
    kept = retention(values)
    if len(ratios) < 2:
        return np.nan
    return float(((kept[1:] + kept[:-1]) / 2 * np.diff(ratios)).sum() / (ratios[-1] - ratios[0]))


def slope(ratios: np.ndarray, values: np.ndarray) -> float:
    """Return the least-squares slope of M(r) / M(0) on r."""
    if len(ratios) < 2:
        return np.nan
    centred = ratios - ratios.mean()
    return float((centred * retention(values)).sum() / (centred**2).sum())


def half_point(ratios: np.ndarray, values: np.ndarray) -> float:
    """Return the lowest ratio at which M is half of M(0), interpolated linearly; NaN where it is never reached, or values are missing."""
    kept = retention(values)
    low = np.flatnonzero(kept <= 0.5)
    if np.isnan(kept).any() or not len(low):
        return np.nan
    after = low[0]
    before = after - 1
    weight = (kept[before] - 0.5) / (kept[before] - kept[after])
    return float(ratios[before] + weight * (ratios[after] - ratios[before]))


def drop_avoided(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return 1 - drop / drop of the baseline per ratio, [N]; NaN where the baseline does not drop."""
    drop, reference = 1 - retention(values), 1 - retention(baseline)
    return 1 - drop / np.where(reference > 0, reference, np.nan)


def rank_biserial(difference: np.ndarray) -> float:
    """Return (W+ - W-) / (W+ + W-) over the differences that are not zero; 0 where all are."""
    difference = difference[difference != 0]
    if not len(difference):
        return 0.0
    rank = rankdata(np.abs(difference))
    return float((rank * np.sign(difference)).sum() / rank.sum())


def compare(values: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """Compare a metric per user with the baseline's by Wilcoxon's signed-rank test, two-sided; both [R].

    Returns the mean difference over all users, the rank-biserial effect from -1 to 1, p, the smallest mean difference that is
    detectable with 80 % power at the 5 % level, the number of users, and how many the test excludes because they do not differ.
    """
    difference = np.round(values - baseline, DECIMALS)
    changed = difference[difference != 0]
    spread = difference.std(ddof=1) if len(difference) > 1 else np.nan
    return {
        "mean difference": float((values - baseline).mean()),
        "effect": rank_biserial(difference),
        "p": float(wilcoxon(changed).pvalue) if len(changed) else 1.0,
        "detectable": float((norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)) * spread / np.sqrt(len(difference))),
        "users": len(difference),
        "no difference": len(difference) - len(changed),
    }


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm's corrected p-values of a family of tests, [N]."""
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    result = np.empty(len(p))
    result[order] = np.minimum(corrected, 1)
    return result


def bootstrap(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of 95 % percentile bands of the column means of `values` [R, C] over resampled users; both [C]."""
    low, high = np.quantile(resampled(values, DRAWS, seed=0), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return low, high


def resampled(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return the column means of `values` [R, C] over resampled users, [draws, C].

    A draw is a row of weights, how often each user was drawn, so that all columns use the same draws.
    """
    users = len(values)
    generator, means = np.random.default_rng(seed), []
    for first in range(0, draws, 100):
        size = min(100, draws - first)
        drawn = generator.integers(users, size=(size, users)) + np.arange(size)[:, None] * users
        weights = np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users)
        means.append(weights.astype(np.float64) @ values / users)
    return np.concatenate(means)


def noise_floor(values: list[np.ndarray]) -> dict[str, float] | None:
    """Return the differences between seeds over all pairs, from a metric per user of each seed, each [R].

    The drop is |M_a - M_b| / mean of M, the effect the mean of |rank-biserial|. None for fewer than two seeds or a mean of 0.
    """
    means = [value.mean() for value in values]
    if len(values) < 2 or not np.mean(means) > 0:
        return None
    pairs = list(combinations(range(len(values)), 2))
    apart = [abs(means[a] - means[b]) / np.mean(means) for a, b in pairs]
    effects = [abs(rank_biserial(np.round(values[a] - values[b], DECIMALS))) for a, b in pairs]
    found = {"pairs": len(pairs), "drop, mean": np.mean(apart), "drop, largest": max(apart), "effect": np.mean(effects)}
    return {name: value if name == "pairs" else float(value) for name, value in found.items()}
