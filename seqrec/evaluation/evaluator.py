"""Full ranking: the rank of every target in the whole catalogue, computed in chunks of users."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.loader import EvalLoader
from seqrec.data.split import EvalSplit
from seqrec.evaluation.metrics import DEFAULT, longest_list, summarise
from seqrec.utils.errors import UserError
from seqrec.utils.processes import summed, together

SCORES_AT_ONCE = 4_000_000  # floats: about what fits a last-level cache, and independent of the number of users
NOT_FINITE = (
    "the method gave a score that is not a finite number; was training stable? Try a lower trainer.optimizer.lr"
)
COMPARED_AT_ONCE = 500_000  # floats that stay in a core's cache while they are compared


@dataclass(frozen=True)
class Ranks:
    """The target's rank per user: `better` candidates score above it, `equal` the same (itself included)."""

    user: np.ndarray  # [R]
    target: np.ndarray  # [R]
    better: np.ndarray  # [R]
    equal: np.ndarray  # [R]
    masked_targets: int  # targets that are in their own history, which is excluded from the ranking
    lists: np.ndarray | None = None  # [R, K] the best candidates, best first, where a metric needs them

    @property
    def rank(self) -> np.ndarray:
        """Mean rank among the candidates, from 1, [R]."""
        return self.better + (self.equal + 1) / 2


def top_lists(scores: Tensor, size: int) -> Tensor:
    """Return the items with the highest scores [B, V + 1], best first and among equals the lower id first, [B, size].

    Raises UserError if a row has fewer candidates (scores above -inf) than that.
    """
    values, items = scores.topk(size + 1, 1)
    if (values[:, size - 1] == -torch.inf).any():
        raise UserError(f"top lists of {size} items: a user has fewer candidates; lower eval.cutoffs or --cutoff")
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    if tied.any():
        bits = (scores[tied] + 0.0).view(torch.int32)  # + 0 turns -0 into 0
        in_order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
        lower_id_first = torch.arange(scores.shape[1], 0, -1, device=scores.device)
        items[tied] = ((in_order << 32) + lower_id_first).topk(size + 1, 1).indices
    return items[:, :size]


def rows_at_once(num_items: int, most: int) -> int:
    """Return how many rows of scores [V + 1] may be in memory at the same time."""
    return min(most, max(16, SCORES_AT_ONCE // (num_items + 1)))


class Evaluator:
    """Evaluates a method on the validation or test set.

    All items are candidates but padding and, with `mask_history`, the items of the clean history. A target that is in
    that history is ranked below all items of the catalogue, so that it is a miss at every K. `counts` [V + 1] are the
    training counts that list metrics need.
    """

    def __init__(
        self,
        cutoffs: list[int],
        mask_history: bool,
        ties: str,
        num_items: int,
        max_len: int,
        metrics: Iterable[str] = DEFAULT,
        counts: np.ndarray | None = None,
    ):
        if max(cutoffs) > num_items:
            raise UserError(f"eval.cutoffs: K={max(cutoffs)} is larger than the catalogue of {num_items} items")
        self.cutoffs, self.mask_history, self.ties = cutoffs, mask_history, ties
        self.num_items, self.max_len, self.metric_names, self.counts = num_items, max_len, list(metrics), counts

    def refuse_long_lists(self, questions: EvalSplit) -> None:
        """Raise UserError if a metric needs longer lists than a user of `questions` has candidates."""
        longest, masked = longest_list(self.metric_names, self.cutoffs), 0
        if self.mask_history and longest + questions.history.lengths.max(initial=0) > self.num_items:
            row, item = questions.history.pairs()
            masked = np.bincount(np.unique(row * (self.num_items + 1) + item) // (self.num_items + 1)).max(initial=0)
        if longest > self.num_items - masked:
            raise UserError(
                f"eval.cutoffs: lists of {longest} items are needed, and a user has {self.num_items - masked} candidates; lower them"
            )

    @property
    def users_at_once(self) -> int:
        """Number of users whose scores are in memory at the same time."""
        return rows_at_once(self.num_items, 1024)

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Return every metric by its name and cutoff; list metrics only of ranks that have lists."""
        return summarise(
            ranks.better, ranks.equal, self.cutoffs, self.ties, self.metric_names, ranks.lists, self.counts
        )

    @torch.no_grad()
    def ranks(
        self,
        method: torch.nn.Module,
        split: EvalSplit,
        device: torch.device,
        on_chunk: Callable[[np.ndarray, Tensor, Tensor], None] | None = None,
        lists: bool = False,
        fabric: Fabric | None = None,
    ) -> Ranks:
        """Rank the target of every user; raises UserError if a score is not finite.

        `on_chunk` is called with each chunk: its rows [B], the scores [B, V + 1], -inf at what is no candidate, and the
        targets [B]. With `lists` the top-K lists are kept where a metric needs them, R x K ids. With
        `fabric` its processes share the chunks, and each gets the ranks of all users.
        """
        size, longest = len(split.user), longest_list(self.metric_names, self.cutoffs) if lists else 0
        top = np.zeros((size, longest), np.int32) if longest else None
        better, equal, masked = (np.zeros(size, np.int64) for _ in range(3))
        share = (0, None, 1) if fabric is None else (fabric.global_rank, None, fabric.world_size)

        def count() -> None:
            for rows, batch in islice(EvalLoader(split, self.users_at_once, self.max_len), *share):
                scores = method.score(batch := batch.to(device)).float()
                counts = self._count(scores, batch)
                if top is not None:
                    top[rows] = top_lists(scores, longest).cpu().numpy()
                if on_chunk is not None:
                    on_chunk(rows, scores, batch.target[:, -1])
                better[rows], equal[rows], masked[rows] = (count.cpu().numpy() for count in counts)

        was_training = method.training
        method.eval()
        together(fabric, count)
        method.train(was_training)
        better, equal, masked = (summed(fabric, array) for array in (better, equal, masked))
        if top is not None:
            top = summed(fabric, top)
        return Ranks(split.user, split.target, better, equal, int(masked.sum()), top)

    def _count(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return, per row of scores [B, V + 1], the candidates above the target, those at its score, and whether the target is masked.

        Overwrites scores. The target's score is read from the same matrix: computed apart it may differ in the last bit
        and pass itself.
        """
        target = batch.target[:, -1:]
        masked = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        excluded = [scores[:, 0]]
        if self.mask_history:
            row, item = batch.seen
            excluded.append(scores[row, item])
            scores[row, item] = -torch.inf
            masked[row[item == target[row, 0]]] = True
        highest = [torch.cat(excluded).amax()]  # NaN and +inf come through
        scores[:, 0] = -torch.inf
        own = scores.gather(1, target)
        at_once = max(1, COMPARED_AT_ONCE // scores.shape[1]) if scores.device.type == "cpu" else len(scores)
        buffer, better, equal = torch.empty_like(scores[:at_once]), [], []
        for part, own_part in zip(scores.split(at_once), own.split(at_once), strict=True):
            # comparing into a float buffer and summing that is five times as fast as summing booleans
            compared = buffer[: len(part)]
            highest.append(part.amax())
            better.append(torch.gt(part, own_part, out=compared).sum(1))
            equal.append(torch.eq(part, own_part, out=compared).sum(1))
        if not torch.isfinite(torch.stack(highest).amax()) or (own[~masked] == -torch.inf).any():
            raise UserError(NOT_FINITE)
        better, equal = torch.cat(better), torch.cat(equal)
        return torch.where(masked, self.num_items, better.long()), torch.where(masked, 1, equal.long()), masked
