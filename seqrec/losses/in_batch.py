"""Softmax losses whose negatives are the targets of the batch's other users, alone or mixed with drawn items."""

import math

import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.losses.next_item import NextItemLoss


class InBatchSoftmax(NextItemLoss):
    """Softmax over the target and the targets of all other users in the batch, corrected for their frequency (logQ).

    Where a batch has m slots of other users, item j is expected m p(j) times among their targets, p(j) being its share of the
    training interactions; the logarithm of the expected count is subtracted from a negative's logit, and the target's
    is left as it is, as in `SampledSoftmax`. Negatives equal to the slot's target are excluded. Source: Yi et al., RecSys
    2019. With several processes each takes the targets of its own shard of a batch.
    """

    shared = in_batch = True

    def __init__(self):
        super().__init__()
        self.register_buffer("frequency", None, persistent=False)

    def count(self, counts: Tensor) -> None:
        """Take the training counts of the items, [V + 1]."""
        self.frequency = (counts / counts.sum()).float()

    def context(self, batch: Batch, supervised: Tensor) -> dict[str, Tensor]:
        """Return the user of each supervised slot of [B, T], [n]."""
        return {"user": batch.user[supervised.nonzero()[:, 0]]}

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None, *, user) -> Tensor:
        """Return the loss of each slot, [n]; `user` [n], `negative` [N] or None."""
        positive = self.rows(table, target) if positive is None else positive
        own = (hidden * positive).sum(-1)
        candidate, vectors = target, positive
        if negative is not None:
            drawn = self.rows(table, negative) if sampled is None else sampled
            candidate, vectors = torch.cat([target, negative]), torch.cat([positive, drawn])
        _, row, slots = user.unique(return_inverse=True, return_counts=True)
        others = len(user) - slots[:, None]  # slots of other users, [users, 1]
        log_expected = (others * self.frequency[candidate] + self.expected_draws(candidate)).log()
        excluded = candidate == target[:, None]
        excluded[:, : len(target)] |= user == user[:, None]
        logits = hidden @ vectors.T - log_expected[row]  # in single precision from here on, also under autocast
        logits = logits.masked_fill_(excluded, -math.inf)
        return torch.logaddexp(own, logits.logsumexp(1)) - own

    def expected_draws(self, item: Tensor) -> Tensor | float:
        """Return how often each item [M] is expected among the drawn negatives, [M]."""
        return 0.0


class MixedSoftmax(InBatchSoftmax):
    """`InBatchSoftmax` with `negatives` more items, drawn by training counts to the power `power` (mixed negative sampling).

    Item j is expected m p(j) + N q(j) times, q being the probability of a draw. Source: Yang et al., WWW 2020.
    """

    def __init__(self, negatives: int, power: float):
        super().__init__()
        self.negatives, self.power = negatives, power
        self.register_buffer("draws", None, persistent=False)

    def setup(self, log_proposal: Tensor) -> None:
        """Take the log-probability with which each item is drawn as a negative, [V + 1]."""
        most = len(log_proposal) - 1 if self.power == 0 else self.negatives  # uniform draws are distinct
        self.draws = min(self.negatives, most) * log_proposal.exp()

    def expected_draws(self, item: Tensor) -> Tensor:
        """Return how often each item [M] is expected among the drawn negatives, [M]."""
        return self.draws[item]
