"""Next-item losses over the supervised slots of a batch.

Every loss takes hidden states [n, D], target ids [n], the item table [V + 1, D] and the negatives of the slots. A method
that perturbs embeddings passes them as `positive` [n, D] and `sampled` [n, N, D] or [N, D], and they replace the table's
rows. `per_slot` returns the loss of each slot, calling the loss returns their mean, `with_slots` both.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.losses.chunked_cross_entropy import chunked_cross_entropy


class NextItemLoss(nn.Module):
    """Base of the next-item losses; its attributes specify which negatives the loader draws."""

    negatives = 0  # per slot, or for the whole batch if `shared`
    shared = False
    power = 0.0  # exponent of the training counts in the proposal of shared negatives
    whole_table = False  # whether the gradient reaches every row of the table
    in_batch = False  # whether the targets of other users in the batch are negatives
    sparse = False  # whether the gradient of the table has only the rows that were looked up

    def setup(self, log_proposal: Tensor) -> None:
        """Take the log-probability with which each item is drawn as a negative, [V + 1]."""

    def count(self, counts: Tensor) -> None:
        """Take the training counts of the items, [V + 1]."""

    def context(self, batch: Batch, supervised: Tensor) -> dict[str, Tensor]:
        """Return what else the loss must be told of the supervised slots [B, T] of a batch, by name, [n]."""
        return {}

    def rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the rows of the table for item ids [...], [..., D]."""
        return F.embedding(ids, table, sparse=self.sparse)

    def forward(self, hidden: Tensor, target: Tensor, table: Tensor, negative: Tensor | None = None, **more) -> Tensor:
        """Return the mean over the slots, a scalar."""
        return self.with_slots(hidden, target, table, negative, **more)[0]

    def with_slots(
        self, hidden: Tensor, target: Tensor, table: Tensor, negative: Tensor | None = None, **more
    ) -> tuple[Tensor, Tensor]:
        """Return the mean over the slots, a scalar, and without a graph the loss of each, [n]."""
        each = self.per_slot(hidden, target, table, negative, **more)
        return each.mean(), each.detach()

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return the loss of each slot, [n]."""
        raise NotImplementedError


class CrossEntropy(NextItemLoss):
    """Softmax over the whole catalogue; padding is not a candidate.

    Logits exist only in chunks of `chunk` slots, except where `per_slot` keeps them for its gradient.
    """

    whole_table = True

    def __init__(self, chunk: int):
        super().__init__()
        self.chunk = chunk

    def with_slots(self, hidden, target, table, negative=None, positive=None, sampled=None) -> tuple[Tensor, Tensor]:
        """Return the mean over the slots, whose gradient is computed chunk by chunk in the forward pass, and the loss of each, [n]."""
        return chunked_cross_entropy(hidden, target, table, self.chunk, positive)

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return -log softmax at the target of each slot, [n]; `positive` replaces the target's row in its own logit."""
        if not torch.is_grad_enabled():
            return self.with_slots(hidden, target, table, positive=positive)[1]
        losses = []
        for at in torch.arange(len(target), device=target.device).split(self.chunk):
            logits = hidden[at] @ table.T
            if positive is not None:
                own = (hidden[at] * positive[at]).sum(-1, keepdim=True)
                logits = logits.scatter(1, target[at, None], own.to(logits.dtype))
            logits[:, 0] = -math.inf
            losses.append(F.cross_entropy(logits, target[at], reduction="none"))
        return torch.cat(losses)


class SampledSoftmax(NextItemLoss):
    """Softmax over the target and `negatives` items shared by the batch; a negative equal to the slot's target is excluded.

    With `log_q` the logits are corrected by the log-probability of being drawn (Bengio and Senecal 2008), without it
    the loss is the plain sampled softmax. `power` > 0 draws by training counts to that power.
    """

    shared = True

    def __init__(self, negatives: int, power: float, log_q: bool):
        super().__init__()
        self.negatives, self.power, self.log_q = negatives, power, log_q
        self.register_buffer("log_proposal", None, persistent=False)

    def setup(self, log_proposal: Tensor) -> None:
        """Take the log-probability with which each item is drawn as a negative, [V + 1]."""
        self.log_proposal = log_proposal

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return the loss of each slot, [n]; `negative` [N]."""
        positive = self.rows(table, target) if positive is None else positive
        sampled = self.rows(table, negative) if sampled is None else sampled
        own = (hidden * positive).sum(-1, keepdim=True)
        others = hidden @ sampled.T
        if self.log_q:
            # log N turns the probability of one draw into the expected count among N draws
            others = others - (self.log_proposal[negative] + math.log(len(negative)))
        others = others.masked_fill(negative == target[:, None], -math.inf)
        return torch.logsumexp(torch.cat([own, others], 1), 1) - own[:, 0]


class PerSlotNegatives(NextItemLoss):
    """Base of the losses with N = `negatives` negatives at every slot."""

    def __init__(self, negatives: int):
        super().__init__()
        self.negatives = negatives

    def scores(self, hidden, target, table, negative, positive, sampled) -> tuple[Tensor, Tensor]:
        """Return the scores of the target [n] and of the negatives [n, N]."""
        positive = self.rows(table, target) if positive is None else positive
        sampled = self.rows(table, negative) if sampled is None else sampled
        return (hidden * positive).sum(-1), (sampled @ hidden.unsqueeze(-1)).squeeze(-1)


class BinaryCrossEntropy(PerSlotNegatives):
    """-log sigmoid(target) - mean of log(1 - sigmoid(negative)) (SASRec, Kang and McAuley 2018, eq. 11, there with one negative)."""

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return the loss of each slot, [n]; `negative` [n, N]."""
        own, others = self.scores(hidden, target, table, negative, positive, sampled)
        return F.softplus(-own) + F.softplus(others).mean(-1)


class GeneralisedBinaryCrossEntropy(PerSlotNegatives):
    """gBCE: -log sigmoid(target)^beta - sum of log(1 - sigmoid(negative)), over N + 1 (gSASRec, Petrov and Macdonald 2023).

    `calibration` is the paper's t: 0 leaves the binary cross-entropy (beta = 1), 1 removes the overconfidence of
    sampling completely (beta = the sampling rate N / (V - 1)).
    """

    def __init__(self, negatives: int, calibration: float):
        super().__init__(negatives)
        self.calibration = calibration

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return the loss of each slot, [n]; `negative` [n, N]."""
        own, others = self.scores(hidden, target, table, negative, positive, sampled)
        rate = self.negatives / (len(table) - 2)
        beta = 1 + self.calibration * (rate - 1)
        return (beta * F.softplus(-own) + F.softplus(others).sum(-1)) / (self.negatives + 1)


class BayesianPersonalisedRanking(PerSlotNegatives):
    """-log sigmoid(target - negative), mean over the negatives (Rendle et al. 2009)."""

    def per_slot(self, hidden, target, table, negative=None, positive=None, sampled=None) -> Tensor:
        """Return the loss of each slot, [n]; `negative` [n, N]."""
        own, others = self.scores(hidden, target, table, negative, positive, sampled)
        return F.softplus(others - own[:, None]).mean(-1)
