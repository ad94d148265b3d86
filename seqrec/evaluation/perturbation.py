"""Test-time perturbation of a finished run: one checkpoint, many perturbed inputs, no training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from seqrec.data.sequences import Sequences, ranges
from seqrec.data.split import EvalSplit
from seqrec.evaluation import attacks
from seqrec.evaluation.evaluator import Evaluator, top_lists
from seqrec.evaluation.list_stability import frbo, jaccard, lost, over_draws, rank_shift, relative_drop, worst_hit
from seqrec.evaluation.metrics import METRICS, hit_rate, ndcg, per_user, settle_ties
from seqrec.methods.base import Method
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.plan import corrupt
from seqrec.noise.registry import NoiseSettings
from seqrec.utils.errors import UserError
from seqrec.utils.keyed_random import key

TEST_TIME = 2001  # a word of keys, apart from those of seqrec/noise and seqrec/evaluation/attacks.py


@dataclass(frozen=True)
class Outcome:
    """The evaluation of a method on R users."""

    better: np.ndarray  # [R]
    equal: np.ndarray  # [R]
    lists: np.ndarray  # [R, K] best candidates, best first, ties by id
    log_score: np.ndarray  # [R] log softmax of the target over the candidates

    @property
    def rank(self) -> np.ndarray:
        """Mean rank of the target among the candidates, from 1, [R]."""
        return self.better + (self.equal + 1) / 2

    def merged(self, rows: np.ndarray, other: "Outcome") -> "Outcome":
        """Return a copy with `other` [C] at the given rows [C]."""
        parts = {name: value.copy() for name, value in vars(self).items()}
        for name, value in parts.items():
            value[rows] = getattr(other, name)
        return Outcome(**parts)

    def lower(self, other: "Outcome") -> "Outcome":
        """Return, user by user, the outcome that scores the target lower."""
        rows = np.flatnonzero(other.log_score < self.log_score)
        return self.merged(rows, Outcome(**{name: value[rows] for name, value in vars(other).items()}))


def changed(before: Sequences, after: Sequences) -> np.ndarray:
    """Return the rows in which two sets of sequences differ, [C]."""
    differs = before.lengths != after.lengths
    same = np.flatnonzero(~differs)
    row = np.repeat(same, before.lengths[same])
    old, new = (part.items[ranges(part.start[same], part.stop[same])] for part in (before, after))
    differs[row[old != new]] = True
    return np.flatnonzero(differs)


class PerturbedEvaluator:
    """Evaluates a method on perturbed inputs and compares the results with those on the clean inputs.

    Targets, masking and candidates are those of the clean history. `cutoff` is the K of all measures. Gradient attacks
    differentiate `differentiated`: the trained model alone where `method` is fused with counts.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        method: torch.nn.Module,
        device: torch.device,
        split: EvalSplit,
        cutoff: int,
        differentiated: Method | None = None,
    ):
        if not 1 <= cutoff <= evaluator.num_items:
            raise UserError(f"--cutoff {cutoff}: must be from 1 to the number of items, {evaluator.num_items}")
        self.evaluator, self.method, self.device = evaluator, method, device
        self.differentiated = method if differentiated is None else differentiated
        self.split, self.cutoff = split, cutoff
        self.visible = attacks.newest(split.inputs, evaluator.max_len)
        self.clean = self._evaluate(split)

    def _evaluate(self, split: EvalSplit) -> Outcome:
        size = len(split.user)
        lists, log_score = np.zeros((size, self.cutoff), np.int32), np.zeros(size, np.float32)

        def on_chunk(rows: np.ndarray, scores: Tensor, target: Tensor) -> None:
            lists[rows] = top_lists(scores, self.cutoff).cpu().numpy()
            own = scores.gather(1, target[:, None])[:, 0]
            log_score[rows] = (own - scores.logsumexp(1)).cpu().numpy()

        ranks = self.evaluator.ranks(self.method, split, self.device, on_chunk)
        return Outcome(ranks.better, ranks.equal, lists, log_score)

    def after(self, inputs: Sequences) -> tuple[Outcome, np.ndarray]:
        """Return the outcome for perturbed inputs, and the rows whose visible inputs differ [C]; only these are evaluated again."""
        rows = changed(self.visible, attacks.newest(inputs, self.evaluator.max_len))
        if not len(rows):
            return self.clean, rows
        affected = replace(self.split, inputs=inputs).take(rows)
        return self.clean.merged(rows, self._evaluate(affected)), rows

    def accuracy(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Return HR@K and NDCG@K of every user, [R] each."""
        better, equal = settle_ties(outcome.better, outcome.equal, self.evaluator.ties)
        return hit_rate(better, equal, self.cutoff), ndcg(better, equal, self.cutoff)

    def chosen(self, outcome: Outcome) -> dict[str, float]:
        """Return the metrics of eval.metrics that have a cutoff, at K, and the drops of those that are means over users."""
        before, after = (settle_ties(given.better, given.equal, self.evaluator.ties) for given in (self.clean, outcome))
        values = {}
        for name in self.evaluator.metric_names:
            column = f"{name}@{self.cutoff}"
            if METRICS[name].of_lists:
                values[column] = METRICS[name].of_lists(outcome.lists, self.evaluator.counts)
            elif METRICS[name].cutoff:
                old, new = per_user(column, *before), per_user(column, *after)
                values |= {column: float(new.mean()), f"{column} drop": relative_drop(old, new)}
        return values

    def measures(self, outcome: Outcome, rows: np.ndarray) -> dict[str, float]:
        """Return all measures of an outcome against the clean one; `rows` [C] are those whose input differs."""
        (hits, gains), (new_hits, new_gains) = self.accuracy(self.clean), self.accuracy(outcome)
        shift = rank_shift(self.clean.rank, outcome.rank)
        tail, tail_loss = worst_hit(gains, new_gains)
        k = self.cutoff
        return {
            "changed": len(rows) / len(hits),
            **self.chosen(outcome),
            f"NDCG@{k} drop of changed": relative_drop(gains[rows], new_gains[rows]),
            f"Jaccard@{k}": float(jaccard(self.clean.lists, outcome.lists).mean()),
            f"FRBO@{k}": float(frbo(self.clean.lists, outcome.lists).mean()),
            "shift mean": float(shift.mean()),
            "shift median": float(np.median(shift)),
            f"hits lost@{k}": lost(hits, new_hits),
            f"hits won@{k}": lost(new_hits, hits),
            f"tail NDCG@{k}": tail,
            f"tail loss@{k}": tail_loss,
        }

    def cell(self, setting: dict, perturbed: Iterable[Sequences]) -> dict:
        """Return setting, number of draws, and mean and std of all measures over the perturbed inputs."""
        return _cell(setting, [self.measures(*self.after(inputs)) for inputs in perturbed])


def _cell(setting: dict, values: list[dict[str, float]]) -> dict:
    mean, deviation = over_draws(values)
    return {**setting, "draws": len(values), "mean": mean, "std": deviation}


def noise_cells(
    examiner: PerturbedEvaluator,
    keys: np.ndarray,
    seed: int,
    foreign: ForeignItems,
    grid: Sequence[NoiseSettings],
    draws: int,
) -> Iterator[dict]:
    """Yield a cell for each setting of noise; `keys` [R] are the users' own, and draw d has the seed `seed` + d."""
    keys = key(TEST_TIME, keys)  # differs from the noise that a run of the same seed was trained on
    inputs = examiner.split.inputs
    for settings in grid:
        perturbed = (corrupt(inputs, keys, settings, seed + draw, foreign).rows for draw in range(draws))
        yield examiner.cell({"attack": "+".join(settings.operators), "ratio": settings.ratio}, perturbed)


def attack_cells(
    examiner: PerturbedEvaluator,
    keys: np.ndarray,
    seed: int,
    foreign: ForeignItems,
    positions: Sequence[str],
    counts: Sequence[int],
    draws: int,
    worst: int,
    gradient: bool,
) -> Iterator[dict]:
    """Yield the cells of each position and number of replaced items: random items, the worst of `worst`, by gradient.

    `positions` are what attacks.check accepts. The first of the `worst` candidates are the draws of "random"; a user
    gets the candidate with the lowest log-score of the target.
    """
    # a run trained on noise may have noisy inputs: a replacement is in neither the clean nor the noisy history
    known = attacks.joined(examiner.split.history, examiner.split.inputs)
    split = replace(examiner.split, inputs=examiner.visible, history=known)
    for position, count in product(positions, counts):
        setting = {"position": position, "k": count}
        values, lowest = [], None
        for draw in range(max(draws, worst)):
            row, offset = attacks.slots(split.inputs, position, count, keys, seed + draw)
            items = attacks.random_items(split, row, offset, keys, seed + draw, foreign)
            outcome, rows = examiner.after(attacks.replaced(split.inputs, offset, items))
            if draw < draws:
                values.append(examiner.measures(outcome, rows))
            if draw < worst:
                lowest = outcome if lowest is None else lowest.lower(outcome)
        yield _cell({"attack": "random", **setting}, values)
        if worst:
            # every draw changes the same rows: those that have an item at the position
            yield _cell({"attack": f"worst of {worst}", **setting}, [examiner.measures(lowest, rows)])
        if gradient:
            offsets = (
                attacks.slots(split.inputs, position, count, keys, seed + draw)[1]
                for draw in range(draws if position == "random" else 1)
            )
            perturbed = (
                attacks.replaced(
                    split.inputs,
                    offset,
                    attacks.gradient_items(examiner.differentiated, split, offset, examiner.device),
                )
                for offset in offsets
            )
            yield examiner.cell({"attack": "gradient", **setting}, perturbed)
