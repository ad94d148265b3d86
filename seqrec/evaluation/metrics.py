"""Metrics of a full ranking: one registry, read by evaluation, report, robustness and the check of `trainer.monitor`.

A rank metric sees the target's rank, a list metric the top-K lists of all users. Adding a metric is one entry here.
Tied scores make the target's rank ambiguous: with `better` items above it and `equal` items at its score (itself included)
the ranks better + 1 .. better + equal are equally likely, and rank metrics are expectations over them.
Must not import torch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from seqrec.utils.errors import UserError, must_take, nearest

TIES = ("expected", "pessimistic", "optimistic")
DEFAULT = ("HR", "NDCG", "MRR")


@dataclass(frozen=True)
class Metric:
    """An entry of the registry: `of_ranks(better, equal[, k])` gives [R], `of_lists(lists, counts)` one number."""

    of_ranks: Callable[..., np.ndarray] | None = None
    of_lists: Callable[[np.ndarray, np.ndarray], float] | None = None
    cutoff: bool = True  # False: computed over the whole ranking, without an @K
    higher_is_better: bool = True


METRICS: dict[str, Metric] = {}


def rank_metric(name: str, cutoff: bool = True, higher_is_better: bool = True) -> Callable:
    """Register a function of better [R], equal [R] and, with a cutoff, K that returns a value per user, [R]."""

    def register(function: Callable) -> Callable:
        METRICS[name] = Metric(of_ranks=function, cutoff=cutoff, higher_is_better=higher_is_better)
        return function

    return register


def list_metric(name: str, higher_is_better: bool = True) -> Callable:
    """Register a function of lists [R, K] of item ids and training counts [V + 1] that returns one number."""

    def register(function: Callable) -> Callable:
        METRICS[name] = Metric(of_lists=function, higher_is_better=higher_is_better)
        return function

    return register


@rank_metric("HR")
def hit_rate(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """HR@K: the probability that the target is among the first K, [R] (Deshpande and Karypis, TOIS 2004)."""
    return np.clip((k - better) / equal, 0, 1)


@rank_metric("Recall")
def recall(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """Recall@K: the fraction of the relevant items that is among the first K, [R]; with one target per user it equals HR@K."""
    return hit_rate(better, equal, k)


@rank_metric("Precision")
def precision(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """Precision@K: the fraction of the first K that is relevant, [R]; with one target per user HR@K / K."""
    return hit_rate(better, equal, k) / k


@rank_metric("NDCG")
def ndcg(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """NDCG@K with one relevant item: the mean of 1 / log2(rank + 1) over the possible ranks, 0 beyond K, [R].

    Järvelin and Kekäläinen, TOIS 2002; the ideal DCG is 1.
    """
    return _mean_gain(better, equal, 1 / np.log2(np.arange(1, k + 1) + 1))


@rank_metric("MAP")
def average_precision(better: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """MAP@K with one relevant item: the mean of 1 / rank over the possible ranks, 0 beyond K, [R].

    This is MRR cut off at K; Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 8.4.
    """
    return _mean_gain(better, equal, 1 / np.arange(1, k + 1))


@rank_metric("MRR", cutoff=False)
def reciprocal_rank(better: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """MRR: the mean of 1 / rank over the possible ranks, without a cutoff, [R] (Voorhees, TREC-8 1999)."""
    return _mean_gain(better, equal, 1 / np.arange(1, (better + equal).max() + 1))


def _mean_gain(better: np.ndarray, equal: np.ndarray, gain: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(gain)])
    last = len(gain)
    return (total[np.minimum(better + equal, last)] - total[np.minimum(better, last)]) / equal


@list_metric("Coverage")
def coverage(lists: np.ndarray, counts: np.ndarray) -> float:
    """Catalogue coverage@K: the fraction of the V items that is in at least one list (Ge et al., RecSys 2010)."""
    return len(np.unique(lists)) / (len(counts) - 1)


@list_metric("Gini", higher_is_better=False)
def gini(lists: np.ndarray, counts: np.ndarray) -> float:
    """Gini@K: inequality of how often the V items are recommended, 0 = all alike, 1 - 1/V = one item alone.

    sum_i (2 i - V - 1) n_i / (V sum_i n_i), n ascending; for recommendations: Fleder and Hosanagar, Management Science 2009.
    """
    shown = np.sort(np.bincount(lists.ravel(), minlength=len(counts))[1:])
    items = len(shown)
    return float((2 * np.arange(1, items + 1) - items - 1) @ shown / (items * shown.sum()))


@list_metric("ARP", higher_is_better=False)
def average_popularity(lists: np.ndarray, counts: np.ndarray) -> float:
    """ARP@K: the mean training count of the recommended items (Yin et al., VLDB 2012)."""
    return float(counts[lists].mean())


@list_metric("Novelty")
def novelty(lists: np.ndarray, counts: np.ndarray) -> float:
    """Novelty@K: the mean of -log2 p over the recommended items, in bits; p = (training count + 1) / (all counts + V).

    Self-information of Zhou et al., PNAS 2010, who take the fraction of users for p. Adding one keeps an item without
    training interactions finite, and p sums to 1 over the catalogue.
    """
    probability = (counts + 1) / (counts[1:].sum() + len(counts) - 1)
    return float(-np.log2(probability[lists]).mean())


def check_names(names: object) -> None:
    """Raise UserError unless `eval.metrics` is a list of different metrics of the registry whose functions can be called."""
    if isinstance(names, str) or not isinstance(names, Iterable) or not list(names):
        raise UserError(f"eval.metrics={names}: must be a list, like [{','.join(DEFAULT)}]")
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name not in METRICS:
            raise UserError(f"eval.metrics: no metric '{name}'; there are {', '.join(METRICS)}{nearest(name, METRICS)}")
        metric = METRICS[name]
        wanted = ("better", "equal", *["k"] * metric.cutoff) if metric.of_ranks else ("lists", "counts")
        must_take(f"eval.metrics={name}", metric.of_ranks or metric.of_lists, *wanted)
    if len(set(names)) < len(names):
        raise UserError(f"eval.metrics={names}: a metric is listed twice")


def columns(names: Iterable[str], cutoffs: Iterable[int]) -> list[str]:
    """Return what is computed, in order: HR@5, NDCG@5, HR@10, ..., and metrics without a cutoff last."""
    names = list(names)
    at_cutoffs = [f"{name}@{k}" for k in cutoffs for name in names if METRICS[name].cutoff]
    return at_cutoffs + [name for name in names if not METRICS[name].cutoff]


def parse(column: str) -> tuple[Metric, int | None]:
    """Return the metric and the cutoff of a column such as NDCG@10; raises UserError if there is no such metric."""
    name, at, k = column.partition("@")
    metric = METRICS.get(name)
    if metric is None or bool(at) != metric.cutoff or (at and not (k.isdecimal() and int(k))):
        known = [name + "@K" * metric.cutoff for name, metric in METRICS.items()]
        raise UserError(f"metric {column}: no such metric; there are {', '.join(known)}{nearest(name, METRICS)}")
    return metric, int(k) if at else None


def check_monitor(column: str, names: Iterable[str], cutoffs: Iterable[int]) -> None:
    """Raise UserError unless `trainer.monitor` is a rank metric that is computed and higher where it is better.

    List metrics are computed on the test set alone, and none of them is an aim by itself: random lists have the best Gini.
    """
    known = [name for name in columns(names, cutoffs) if parse(name)[0].of_ranks and parse(name)[0].higher_is_better]
    if column not in known:
        wanted = f"one of {', '.join(known)}" if known else "a rank metric, and eval.metrics has none"
        raise UserError(
            f"trainer.monitor={column}: must be {wanted} (rank metrics of eval.metrics at eval.cutoffs, higher is better)"
            + nearest(column, known)
        )


def longest_list(names: Iterable[str], cutoffs: Iterable[int]) -> int:
    """Return the length of the top-K lists that the metrics need, 0 if they need none."""
    return max(cutoffs) if any(METRICS[name].of_lists for name in names) else 0


def per_user(column: str, better: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Return a rank metric such as NDCG@10 of every user, [R]; raises UserError for another metric."""
    metric, k = parse(column)
    if metric.of_ranks is None:
        raise UserError(f"metric {column}: describes the lists of all users together; it has no value per user")
    return metric.of_ranks(better, equal, *([k] if metric.cutoff else []))


def settle_ties(better: np.ndarray, equal: np.ndarray, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (better, equal) under a tie rule: `expected` keeps them, the others put the target last or first among its equals."""
    if ties == "pessimistic":
        return better + equal - 1, np.ones_like(equal)
    if ties == "optimistic":
        return better, np.ones_like(equal)
    return better, equal


def summarise(
    better: np.ndarray,
    equal: np.ndarray,
    cutoffs: list[int],
    ties: str,
    names: Iterable[str] = DEFAULT,
    lists: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> dict[str, float]:
    """Return every metric by its column: means over users of better [R] and equal [R], and numbers of lists [R, K].

    `counts` [V + 1] are the training counts of the items. List metrics are left out where there are no lists.
    """
    better, equal = settle_ties(better, equal, ties)
    values = {}
    for column in columns(names, cutoffs):
        metric, k = parse(column)
        if metric.of_ranks:
            values[column] = float(per_user(column, better, equal).mean())
        elif lists is not None:
            values[column] = metric.of_lists(lists[:, :k], counts)
    return values
