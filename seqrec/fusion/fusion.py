"""Fitting a fused scorer on validation, cross-fitted over two halves of the users."""

import math
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from seqrec.data.loader import EvalLoader
from seqrec.data.sequences import Sequences
from seqrec.data.split import EvalSplit
from seqrec.evaluation.evaluator import Evaluator, Ranks
from seqrec.fusion.features import FeatureSet
from seqrec.fusion.fit import Chunk, fit
from seqrec.fusion.fused import Fused, weight_names
from seqrec.utils.errors import UserError, within
from seqrec.utils.keyed_random import uniform

CELLS = 100_000_000  # scores kept for the fit: 400 MB
FEWEST = 500  # users of a fit, however large the catalogue
ROWS = 512  # users whose features are made at once
FOLD, SAMPLE = 301, 302  # words of the keys that draw the halves and the users of the fit


class Fusion:
    """Count features beside the scores of one or more models (docs/fusion.md).

    `fit_users` validation users, drawn by their own ids, fit the weights. `lengths` part the users into groups of up to so
    many items in the history, each with weights of its own; [] is one group. `runs` are directories of finished runs;
    the build layer loads them. The other arguments are those of FeatureSet. Raises UserError as FeatureSet does.
    """

    def __init__(
        self,
        features: list[str],
        library: dict[str, dict],
        window: int,
        decay: float,
        neighbours: int,
        fit_users: int,
        lengths: list[int],
        runs: list[str],
    ):
        within("fusion.fit_users", fit_users, 1)
        if any(not 0 < shorter < longer for shorter, longer in pairwise([*lengths, math.inf])):
            raise UserError(
                f"fusion.lengths={lengths}: must be a list of whole numbers above 0, each larger than the one before"
            )
        self.features = FeatureSet(features, library, window, decay, neighbours)
        self.fit_users, self.lengths, self.runs = fit_users, lengths, runs

    def setup(self, train: Sequences, num_items: int) -> None:
        """Count the training set."""
        self.features.setup(train, num_items)

    def described(self, weights: dict[str, list[float]]) -> str:
        """Return the weights as text, those of the groups side by side."""
        groups = [*(f"up to {length}" for length in self.lengths), "more"] if self.lengths else ["any number of"]
        shown = ", ".join(f"{name} {'/'.join(f'{weight:.2f}' for weight in each)}" for name, each in weights.items())
        return f"weights for histories of {'/'.join(groups)} items: {shown}"

    def fused(self, models: list[nn.Module], weights: dict[str, list[float]], max_len: int) -> Fused:
        """Return the scorer with the weights of each group by name."""
        ordered = [weights[name] for name in weight_names(len(models), self.features)]
        return Fused(models, self.features, torch.tensor(ordered, dtype=torch.double).T, self.lengths, max_len)

    def fit(
        self, models: list[nn.Module], valid: EvalSplit, keys: np.ndarray, evaluator: Evaluator, device: torch.device
    ) -> tuple[dict[str, list[float]], Ranks]:
        """Return the weights of each group by name, and validation ranks of each half under weights of the other half.

        `keys` [U] uint64 are the users' own: a user's half does not depend on who else is there.
        """
        half = uniform(FOLD, keys[valid.user]) < 0.5
        group = np.searchsorted(self.lengths, np.minimum(valid.inputs.lengths, evaluator.max_len))
        size = min(self.fit_users, max(FEWEST, CELLS // (evaluator.num_items * max(len(models), 1))), len(valid.user))
        sample = np.argsort(uniform(SAMPLE, keys[valid.user]), kind="stable")[:size]
        for model in models:
            model.eval().to(device)  # a finished run may have been loaded on another one
        first, second = (
            [
                self._chunks(models, valid.take(rows[group[rows] == g]), evaluator, device)
                for g in range(len(self.lengths) + 1)
            ]
            for rows in (sample[half[sample]], sample[~half[sample]])
        )
        names = weight_names(len(models), self.features)
        start = torch.zeros(len(names), dtype=torch.double)
        start[: len(models)] = 1 / max(len(models), 1)
        weights = fit_groups([[*a, *b] for a, b in zip(first, second, strict=True)], start)
        better, equal, masked = np.zeros_like(valid.user), np.ones_like(valid.user), 0
        for rows, other in ((half, second), (~half, first)):
            fused = Fused(models, self.features, fit_groups(other, start), self.lengths, evaluator.max_len).to(device)
            ranks = evaluator.ranks(fused, valid.take(np.flatnonzero(rows)), device)
            better[rows], equal[rows], masked = ranks.better, ranks.equal, masked + ranks.masked_targets
        return dict(zip(names, weights.T.tolist(), strict=True)), Ranks(valid.user, valid.target, better, equal, masked)

    @torch.no_grad()
    def _chunks(
        self, models: list[nn.Module], valid: EvalSplit, evaluator: Evaluator, device: torch.device
    ) -> list[Chunk]:
        chunks, width = [], evaluator.num_items + 1
        for _, batch in EvalLoader(valid, ROWS, evaluator.max_len):
            there = batch.to(device)
            scores = [model.score(there).float().cpu() for model in models]
            excluded = [torch.arange(len(batch.seq)) * width]  # padding
            if evaluator.mask_history:
                excluded.append(batch.seen[0] * width + batch.seen[1])
            chunks.append(
                Chunk(
                    torch.stack(scores) if scores else torch.zeros(0, len(batch.seq), width),
                    self.features.of_items,
                    self.features.aligned(batch.seq),
                    batch.target[:, -1],
                    torch.cat(excluded),
                )
            )
        return chunks


def fit_groups(groups: list[list[Chunk]], start: Tensor) -> Tensor:
    """Return the weights of each group [G, K]: those of all, moved as far as the users of the group speak for it."""
    of_all = fit(lambda: chain(*groups), start)
    if len(groups) == 1:
        return of_all[None]
    return torch.stack([fit(lambda chunks=chunks: chunks, of_all, prior=of_all) for chunks in groups])
