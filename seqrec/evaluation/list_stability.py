"""Changes of ranks and top lists under a perturbation of the input; pure functions on arrays.

r is a target's rank before and r' after, L_u and L'_u are the top lists of user u, best first. All measures compare one
perturbed evaluation with the clean one of the same users.
"""

import math

import numpy as np

PERSISTENCE = 0.9
TAIL = 0.1


def jaccard(clean: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """Return |L and L'| / |L or L'| of lists [R, K] of distinct items, [R]."""
    size = clean.shape[1]
    shared = _weighted_matches(clean, perturbed, np.ones((size, size)))
    return shared / (2 * size - shared)


def frbo(clean: np.ndarray, perturbed: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """Return the finite rank-biased overlap (1 - p) / (1 - p^K) sum_d p^(d-1) |L_1:d and L'_1:d| / d of lists [R, K], [R].

    1 for equal lists, 0 for disjoint ones; d runs from 1 to K.
    """
    size = clean.shape[1]
    depth = np.arange(1, size + 1)
    gain = (1 - p) / (1 - p**size) * p ** (depth - 1) / depth
    from_depth_on = np.cumsum(gain[::-1])[::-1]
    position = np.arange(size)
    return _weighted_matches(clean, perturbed, from_depth_on[np.maximum(position[:, None], position)])


def _weighted_matches(clean: np.ndarray, perturbed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum weight[i, j] over all positions i, j with clean[:, i] == perturbed[:, j], [R]; memory is that of one list."""
    return sum((perturbed == clean[:, [position]]) @ row for position, row in enumerate(weight))


def rank_shift(clean: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """Return log2(r' + 1) - log2(r + 1) of ranks from 1, [R]: positive where the target's rank got worse."""
    return np.log2(perturbed + 1) - np.log2(clean + 1)


def lost(clean: np.ndarray, perturbed: np.ndarray) -> float:
    """Return the mean decrease of a metric [R] over users; for hits the fraction of users who lose theirs."""
    return float(np.maximum(clean - perturbed, 0).mean())


def relative_drop(clean: np.ndarray, perturbed: np.ndarray) -> float:
    """Return (M - M') / M of the means of a metric [R]; NaN where M is 0 or there is no user."""
    total = clean.sum()
    return float((total - perturbed.sum()) / total) if total > 0 else math.nan


def worst_hit(clean: np.ndarray, perturbed: np.ndarray, share: float = TAIL) -> tuple[float, float]:
    """Return (mean of M', mean of M - M') over the ceil(share R) users who lose most of a metric [R].

    Among users with equal losses, those with the lower M' come first.
    """
    loss = clean - perturbed
    users = np.lexsort((perturbed, -loss))[: math.ceil(share * len(loss))]
    return float(perturbed[users].mean()), float(loss[users].mean())


def over_draws(values: list[dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return mean and sample standard deviation by name over draws; the deviation of a single draw is NaN."""
    mean, deviation = {}, {}
    for name in values[0]:
        first = values[0][name]
        apart = np.array([draw[name] for draw in values]) - first  # equal draws have exactly this mean, and deviation 0
        mean[name] = float(first + apart.mean())
        deviation[name] = float(apart.std(ddof=1)) if len(apart) > 1 else math.nan
    return mean, deviation
