"""Ranks of the targets in the whole catalogue, counted chunk by chunk."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.loader import EvalLoader
from seqrec.data.split import EvalSplit
from seqrec.evaluation.metrics import summarise
from seqrec.utils.errors import UserError

SCORES_AT_ONCE = 4_000_000  # floats: about what fits a last-level cache, and independent of the number of users


@dataclass(frozen=True)
class Ranks:
    """Where each target stands: `better` candidates score above it, `equal` the same as it (itself included)."""

    user: np.ndarray  # [R]
    target: np.ndarray  # [R]
    better: np.ndarray  # [R]
    equal: np.ndarray  # [R]
    masked_targets: int  # targets that are in their own history and so were left out of the ranking

    @property
    def rank(self) -> np.ndarray:
        """Mean place among the candidates, from 1, [R]."""
        return self.better + (self.equal + 1) / 2


class Evaluator:
    """Asks a method all questions of a part and counts ranks.

    All items are candidates but padding and, with `mask_history`, the items of the clean history. A target that is in
    that history stands below all items of the catalogue, so that it is a miss at every K.
    """

    def __init__(self, cutoffs: list[int], mask_history: bool, ties: str, num_items: int, max_len: int):
        if max(cutoffs) > num_items:
            raise UserError(f"eval.cutoffs: K={max(cutoffs)} is larger than the catalogue of {num_items} items")
        self.cutoffs, self.mask_history, self.ties, self.num_items, self.max_len = (
            cutoffs,
            mask_history,
            ties,
            num_items,
            max_len,
        )

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Return HR@K, NDCG@K and MRR as means over the users."""
        return summarise(ranks.better, ranks.equal, self.cutoffs, self.ties)

    @torch.no_grad()
    def ranks(
        self,
        method: torch.nn.Module,
        questions: EvalSplit,
        device: torch.device,
        watch: Callable[[np.ndarray, Tensor, Tensor], None] | None = None,
    ) -> Ranks:
        """Rank the target of every question; raises UserError if a score is not finite.

        `watch` is shown each chunk: its questions [B], the scores [B, V + 1], -inf at what is no candidate, and the targets [B].
        """
        size = len(questions.user)
        better, equal, masked = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, bool)
        chunk = min(1024, max(16, SCORES_AT_ONCE // (self.num_items + 1)))
        buffer = torch.empty(chunk, self.num_items + 1, device=device)
        was_training = method.training
        method.eval()
        for rows, batch in EvalLoader(questions, chunk, self.max_len):
            scores = method.score(batch := batch.to(device)).float()
            counts = self._count(scores, batch, buffer[: len(rows)])
            if watch is not None:
                watch(rows, scores, batch.target[:, -1])
            better[rows], equal[rows], masked[rows] = (count.cpu().numpy() for count in counts)
        method.train(was_training)
        return Ranks(questions.user, questions.target, better, equal, int(masked.sum()))

    def _count(self, scores: Tensor, batch: Batch, buffer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, per row of scores [B, V + 1], the candidates above the target, those at its score, and whether it is masked.

        Overwrites scores. The target's score is read from the same matrix: computed apart it may differ in the last bit
        and pass itself.
        """
        target = batch.target[:, -1:]
        masked = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        worst = scores.amax()  # NaN and +inf come through
        scores[:, 0] = -torch.inf
        if self.mask_history:
            row, item = batch.seen
            scores[row, item] = -torch.inf
            masked[row[item == target[row, 0]]] = True
        own = scores.gather(1, target)
        if not torch.isfinite(worst) or (own[~masked] == -torch.inf).any():
            raise UserError(
                "the method gave a score that is not a finite number; was training stable? Try a lower trainer.optimizer.lr"
            )
        # comparing into a float buffer and summing that is five times as fast as summing booleans
        better = torch.gt(scores, own, out=buffer).sum(1)
        equal = torch.eq(scores, own, out=buffer).sum(1)
        return torch.where(masked, self.num_items, better.long()), torch.where(masked, 1, equal.long()), masked
