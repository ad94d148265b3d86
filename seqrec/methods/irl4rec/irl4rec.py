"""Irl4Rec: a preference and a confounder representation (arXiv 2308.11728); reconstruction: see docs/methods/irl4rec.md."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.methods.base import Method, ModelSpec
from seqrec.methods.irl4rec.attribute_items import AttributeItems
from seqrec.utils.errors import UserError, one_of, within

CONFOUNDERS = ("ids", "attributes")
VARIANTS = ("bottleneck", "independence", "l2")
FIRST_LOG_VARIANCE = -4.0  # of the sampled representation: small relative to hidden states of unit size


@dataclass(frozen=True)
class Side:
    """The output of one encoder for a batch with n supervised slots."""

    hidden: Tensor  # [n, D]
    looked_up: Tensor  # [B, T, D] item embeddings of the histories
    table: Tensor  # [V + 1, D]; a loss with negatives uses only its length
    candidates: dict[str, Tensor]  # embeddings of target and negatives, for a loss with negatives

    def joined(self, other: "Side") -> "Side":
        """Return both sides concatenated: its scores are the sums of theirs."""

        def join(one: Tensor, two: Tensor) -> Tensor:
            return torch.cat([one, two], -1)

        return Side(
            join(self.hidden, other.hidden),
            self.looked_up,
            self.table if self.candidates else join(self.table, other.table),
            {name: join(value, other.candidates[name]) for name, value in self.candidates.items()},
        )


class Irl4Rec(Method):
    """Two encoders read the same history: t, the preference, is used for scores; s, the confounder, only in training.

    Irl4Rec-style, derived from DIB (Liu et al., RecSys 2021). Reconstruction: see docs/methods/irl4rec.md, also for the
    keys. The method itself is the side of t, `confounder` a plain method, the side of s.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: str,
        gamma: float,
        alpha: float,
        beta: float,
        l2_confounder: bool,
        l2_items: bool,
        shared_table: bool,
        variational: bool,
        confounder: str = "ids",
        attributes: list[str] | None = None,
        relative: bool = False,
        gap_weight: float = 0.0,
    ):
        super().__init__(spec)
        one_of("method.variant", variant, VARIANTS)
        one_of("method.confounder", confounder, CONFOUNDERS)
        for key, value in (("gamma", gamma), ("alpha", alpha), ("beta", beta), ("gap_weight", gap_weight)):
            within(f"method.{key}", value, 0)
        if variant == "bottleneck" and gamma > 1:
            raise UserError(
                f"method.gamma={gamma}: above 1 the loss of t would be maximised; take a number from 0 to 1"
            )
        if shared_table and confounder == "attributes":
            raise UserError("method.shared_table=true: with method.confounder=attributes s has a table of its own")
        self.variant, self.gamma, self.alpha, self.beta, self.relative = variant, gamma, alpha, beta, relative
        self.gap_weight = gap_weight
        self.l2_confounder, self.l2_items, self.shared_table = l2_confounder, l2_items, shared_table
        self.confounder = None if variant == "l2" else Method(spec)
        if shared_table and self.confounder is not None:
            self.confounder.items = self.items
        elif confounder == "attributes" and self.confounder is not None:
            self.confounder.items = AttributeItems(spec.attributes, attributes, spec.dim)
        self.log_variance = None
        if variational:
            self.log_variance = nn.Linear(spec.dim, spec.dim)
            nn.init.zeros_(self.log_variance.weight)
            nn.init.constant_(self.log_variance.bias, FIRST_LOG_VARIANCE)

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Return why the method cannot work with this loss or backbone class, or None if it can."""
        if loss is not None and loss.in_batch:
            return "its bound needs the loss of a slot when all scores are 0: take a loss without in-batch negatives"
        return super().refuse(loss, backbone)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return J of the chosen variant, and its parts."""
        supervised = batch.target > 0
        target, negative = batch.target[supervised], batch.negatives_at(supervised)

        def side(method: Method) -> Side:
            looked_up = method.items(batch.seq)
            candidates = {}
            if negative is not None:
                candidates = {"positive": method.items(target), "sampled": method.items(negative)}
            hidden = method.encode(batch.seq, x=looked_up, newest=method.newest_alone)[supervised]
            return Side(hidden, looked_up, (self if candidates else method).items.weight, candidates)

        def predict(loss: Callable[..., Tensor], side: Side) -> Tensor:
            return loss(side.hidden, target, side.table, negative, **side.candidates)

        sides = [side(method) for method in (self, self.confounder) if method is not None]
        t, compression = self.compressed(sides[0])
        penalty = self.penalty(compression, sides, (batch.seq > 0).sum())
        logs = {"loss_t": predict(self.loss, t), "l2": penalty, "norm_t": mean_norm(t.hidden)}
        objective = logs["loss_t"]
        if self.variant != "l2":
            s = sides[1]
            with torch.set_grad_enabled(self.variant == "independence"):
                logs["dependence"] = dependence(t.hidden, s.hidden)
            logs["norm_s"] = mean_norm(s.hidden)
        if self.variant == "independence":
            logs["loss_s"] = predict(self.loss, s)
            weight, logs["independence_share"] = self.weight_of_dependence(logs["loss_t"], logs["dependence"], t.hidden)
            objective = logs["loss_t"] + self.alpha * logs["loss_s"] + weight * logs["dependence"]
        elif self.variant == "bottleneck":
            if self.gamma > self.alpha:  # l(y; s) is maximised: without a bound there is no minimum
                each = predict(self.loss.per_slot, s)
                bound = 2 * self.chance_level(target, negative)
                logs["loss_s"], logs["at_bound"] = each.clamp(max=bound).mean(), (each > bound).float().mean()
            else:
                with torch.set_grad_enabled(self.gamma < self.alpha):  # otherwise its weight is 0
                    logs["loss_s"] = predict(self.loss, s)
            logs["loss_ts"] = predict(self.loss, t.joined(s))
            objective = (
                (1 - self.gamma) * logs["loss_t"]
                - (self.gamma - self.alpha) * logs["loss_s"]
                + self.gamma * logs["loss_ts"]
            )
        if self.gap_weight:
            logs["risk_gap"] = risk_gap(predict(self.loss.per_slot, t), newer_half(supervised))
            objective = objective + self.gap_weight * logs["risk_gap"].square()
        return {"loss": objective + self.beta * penalty, **logs}

    def weight_of_dependence(self, loss: Tensor, dependence: Tensor, hidden: Tensor) -> tuple[float | Tensor, Tensor]:
        """Return the weight of the dependence, and its share of the sum of the norms of both gradients at t's states, `hidden`.

        With `relative` the weight is such that its gradient there is gamma times as long as that of the loss.
        """
        norms = [torch.autograd.grad(term, hidden, retain_graph=True)[0].norm() for term in (loss, dependence)]
        weight = self.gamma * norms[0] / (norms[1] + 1e-12) if self.relative else self.gamma
        return weight, weight * norms[1] / (norms[0] + weight * norms[1] + 1e-12)

    def compressed(self, side: Side) -> tuple[Side, Tensor]:
        """Return the side of t and its compression term: the mean squared norm of its hidden states.

        Where t is drawn from N(hidden, sigma^2) it is the divergence from N(0, I) instead.
        """
        if self.log_variance is None:
            return side, mean_square(side.hidden)
        log_variance = self.log_variance(side.hidden)
        drawn = side.hidden + (0.5 * log_variance).exp() * torch.randn_like(side.hidden)
        return replace(side, hidden=drawn), gaussian_divergence(side.hidden, log_variance)

    def penalty(self, compression: Tensor, sides: list[Side], cells: Tensor) -> Tensor:
        """Return the term weighted by beta: t's compression, the squared norms of s and of the looked-up item embeddings (`cells`)."""
        regularised = sides if self.l2_confounder else sides[:1]
        total = compression + sum(mean_square(side.hidden) for side in regularised[1:])
        if self.l2_items:
            tables = regularised[:1] if self.shared_table else regularised
            total = total + sum(side.looked_up.square().sum() for side in tables) / cells
        return total

    @torch.no_grad()
    def chance_level(self, target: Tensor, negative: Tensor | None) -> Tensor:
        """Return the loss of a slot when all scores are 0 (the first slot of the batch): ln 2 for BPR."""
        zero = self.items.weight.new_zeros(1, 1).expand(len(self.items.weight), 1)
        if negative is not None and negative.dim() == 2:
            negative = negative[:1]
        return self.loss.per_slot(zero[:1], target[:1], zero, negative)


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)), summed over D, averaged over the rest."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1).mean()


def newer_half(supervised: Tensor) -> Tensor:
    """Return which of the n supervised slots of [B, T] are in the newer half of those of their row, [n] bool."""
    rank = supervised.cumsum(1)
    return (2 * rank > rank[:, -1:])[supervised]


def risk_gap(losses: Tensor, newer: Tensor) -> Tensor:
    """Return the mean loss of the newer slots minus that of the older ones, [n] each; 0 where there are no older ones."""
    older = ~newer
    gap = (losses * newer).sum() / newer.sum() - (losses * older).sum() / older.sum().clamp(min=1)
    return gap * older.any()


def dependence(t: Tensor, s: Tensor) -> Tensor:
    """Return ||C||_F^2 / D^2 for the cross-correlation C of the columns of t and s, [n, D] each: 0 uncorrelated, 1 all equal.

    Computed in single precision also under autocast.
    """

    def standardised(x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return (x - x.mean(0)) * (x.var(0, unbiased=False) + 1e-12).rsqrt()

    with torch.autocast(t.device.type, enabled=False):
        return (standardised(t).T @ standardised(s) / len(t)).square().mean()


def mean_square(x: Tensor) -> Tensor:
    """Return the mean squared L2 norm of the rows."""
    return x.square().sum(-1).mean()


def mean_norm(x: Tensor) -> Tensor:
    """Return the mean L2 norm of the rows, for the log."""
    return x.detach().norm(dim=-1).mean()
