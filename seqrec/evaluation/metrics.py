"""From ranks to HR, NDCG and MRR; pure functions on arrays.

A target's place is uncertain where other items have its score. With `better` items above it and `equal` items at its
score (itself included) the places better + 1 .. better + equal are equally likely, and metrics are expectations over them.
"""

import numpy as np

TIES = ("expected", "pessimistic", "optimistic")


def settle_ties(better: np.ndarray, equal: np.ndarray, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (better, equal) under a tie rule: `expected` leaves them, the others put the target last or first among its equals."""
    if ties == "pessimistic":
        return better + equal - 1, np.ones_like(equal)
    if ties == "optimistic":
        return better, np.ones_like(equal)
    return better, equal


def hit_rate(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """HR@k per question: the probability that the target is among the first k places, [R]."""
    return np.clip((k - better) / equal, 0, 1)


def ndcg(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k per question with one relevant item: the mean of 1 / log2(place + 1) over the possible places up to k, [R]."""
    return _mean_gain(better, equal, 1 / np.log2(np.arange(1, k + 1) + 1))


def reciprocal_rank(better: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """MRR per question: the mean of 1 / place over the possible places, [R]."""
    return _mean_gain(better, equal, 1 / np.arange(1, (better + equal).max() + 1))


def _mean_gain(better: np.ndarray, equal: np.ndarray, gain: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(gain)])
    last = len(gain)
    return (total[np.minimum(better + equal, last)] - total[np.minimum(better, last)]) / equal


def summarise(better: np.ndarray, equal: np.ndarray, cutoffs: list[int], ties: str) -> dict[str, float]:
    """Return the means over all questions: {"HR@5": ..., "NDCG@5": ..., ..., "MRR": ...}."""
    better, equal = settle_ties(better, equal, ties)
    values = {}
    for k in cutoffs:
        values[f"HR@{k}"] = float(hit_rate(better, equal, k).mean())
        values[f"NDCG@{k}"] = float(ndcg(better, equal, k).mean())
    values["MRR"] = float(reciprocal_rank(better, equal).mean())
    return values
