"""LMA4Rec: CoSeRec with learned dropout rates in the feed-forward branches (Hao et al., arXiv 2204.10128)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from seqrec.augment import Views
from seqrec.batch import Batch
from seqrec.losses.contrastive import weighted_sum
from seqrec.methods.base import ModelSpec, ParamGroup
from seqrec.methods.contrastive import encode_with_views
from seqrec.methods.coserec import CoSeRec
from seqrec.methods.lma4rec.bernoulli_dropout import BernoulliDropout
from seqrec.utils.errors import UserError, one_of

ABLATIONS = (None, "ssl", "lma", "da")
CONTRAST_GRADIENTS = ("exact", "own_rows")


class LMA4Rec(CoSeRec):
    """CoSeRec with a learnable Bernoulli dropout at the end of every feed-forward branch; reconstruction: see docs/methods/lma4rec.md.

    The keep logits follow the ARM gradient (eq. 2): the step is run a second time, without a graph, with mirrored draws
    and everything else equal, and the difference of the losses weights u - 1/2. `without` removes a component as in
    the paper's ablation: "ssl" the contrastive loss, "lma" the learned dropout, "da" the augmentation. Raises UserError on a value
    outside its range.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weight: float,
        vector: str,
        cosine: bool,
        temperature: float,
        views: Callable[..., Views],
        hybrid_from: int,
        keep: float | list[float],
        per_unit: bool,
        share_positions: bool,
        pathwise: bool,
        contrast_gradient: str,
        keep_range: list[float] | None,
        keep_optimizer: Callable[..., torch.optim.Optimizer],
        without: str | None,
    ):
        super().__init__(spec, weight, vector, cosine, temperature, views, hybrid_from)
        if without not in ABLATIONS:
            raise UserError(f"method.without={without}: must be null, ssl, lma or da")
        one_of("method.contrast_gradient", contrast_gradient, CONTRAST_GRADIENTS)
        self.without, self.contrast_gradient, self.keep_optimizer = without, contrast_gradient, keep_optimizer
        self.logit_range = None if keep_range is None else torch.tensor(keep_range).logit().tolist()
        if without == "da":
            self.views = views(max_len=spec.max_len, long=[], short=[])
        layers = self.backbone.layers
        keeps = keep if isinstance(keep, list) else [keep] * len(layers)
        if keep_range is not None and not (len(keep_range) == 2 and keep_range[0] < keep_range[1]):
            raise UserError(f"method.keep_range={keep_range}: two numbers are needed, the lower one first")
        if len(keeps) != len(layers) or not all(0 < value < 1 for value in [*keeps, *(keep_range or [])]):
            raise UserError(
                f"method.keep={keep}, method.keep_range={keep_range}: must lie between 0 and 1, one keep or one per layer"
            )
        self.dropouts = []
        if without != "lma":
            units = self.widths()
            self.dropouts = [
                BernoulliDropout(*given, per_unit, share_positions, pathwise)
                for given in zip(units, keeps, strict=True)
            ]
            for layer, dropout in zip(layers, self.dropouts, strict=True):
                layer.dropout = dropout

    @torch.no_grad()
    def widths(self) -> list[int]:
        """Return the number of units of each layer's dropout."""
        seen = []
        hooks = [
            layer.dropout.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
            for layer in self.backbone.layers
        ]
        self.eval()
        self.encode(torch.ones(1, 1, dtype=torch.long))
        self.train()
        for hook in hooks:
            hook.remove()
        return seen

    def param_groups(self) -> dict[str, ParamGroup]:
        """Return the model's parameters and the keep logits, which have an optimiser of their own."""
        logits = [dropout.logit for dropout in self.dropouts]
        if not logits:
            return super().param_groups()
        own = {id(logit) for logit in logits}
        others = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return {"model": ParamGroup(others), "keep": ParamGroup(logits, self.keep_optimizer)}

    def encode(
        self, seq: Tensor, x: Tensor | None = None, positions: Tensor | None = None, newest: bool = False
    ) -> Tensor:
        """Return hidden states [B, T, D] of item ids seq [B, T]; embeddings x [B, T, D] replace the look-up."""
        if self.training and self.dropouts:
            layout = self.backbone.layout(seq > 0)
            for dropout in self.dropouts:
                dropout.layout = layout
        return super().encode(seq, x, positions, newest)

    @contextmanager
    def mirrored(self) -> Iterator[None]:
        """Run the block without a graph and with mirrored draws, and restore the random state after it."""
        device = self.items.weight.device
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            for dropout in self.dropouts:
                dropout.mirrored = True
            try:
                yield
            finally:
                for dropout in self.dropouts:
                    dropout.mirrored = False

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum, whose gradient includes ARM's, and values to log."""
        if not self.dropouts:
            return super().losses(batch)
        drawn = None if self.without == "ssl" else self.views(batch.seq, self.similar)
        with self.mirrored():
            hidden, mirrored_anchors, _ = self.states(batch, drawn)
            _, mirrored_terms = self.next_item(hidden, batch)
        hidden, anchors, accuracy = self.states(batch, drawn)
        next_item, terms = self.next_item(hidden, batch)
        logs = {"loss": next_item, "next_item": next_item}
        changes = [mirrored_terms - terms]
        if anchors is not None:
            logs = weighted_sum(next_item, anchors, accuracy, self.weight)
            changes.append(self.weight * self.contrast_change(mirrored_anchors - anchors.detach()))
        return self.add_arm(logs, changes)

    def states(self, batch: Batch, drawn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the states of the sequences [B, T, D], the loss of each anchor [2B] and the contrastive accuracy."""
        if drawn is None:
            return self.encode(batch.seq, newest=self.newest_alone), None, None
        views, taken = drawn
        hidden, viewed = encode_with_views(self, batch.seq, views, taken)
        return hidden, *self.contrast(viewed, views > 0, batch.user)

    def next_item(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean next-item loss, and without a graph the contribution of each sequence to it, [B]."""
        supervised, table = batch.target > 0, self.items.weight
        given = (hidden[supervised], batch.target[supervised], table, batch.negatives_at(supervised))
        mean, each = self.loss.with_slots(*given, **self.loss.context(batch, supervised))
        terms = table.new_zeros(len(batch.user)).index_add(0, supervised.nonzero()[:, 0], each.to(table.dtype))
        return mean, terms / len(each)

    def contrast_change(self, change: Tensor) -> Tensor:
        """Return the change of the contrastive loss attributed to each view, [2B], from the change of each anchor's loss [2B].

        "exact": each view gets the total change, because its mask affects all denominators (unbiased, high variance).
        "own_rows": the views of a sequence get the change of their own two anchors (biased, low variance).
        """
        if self.contrast_gradient == "exact":
            return change.mean().expand(len(change))
        return change.view(2, -1).sum(0).repeat(2) / len(change)

    def add_arm(self, logs: dict[str, Tensor], changes: list[Tensor]) -> dict[str, Tensor]:
        """Add ARM's gradient to the loss without changing its value, given the change of the loss attributed to each row, [B] and [2B]."""
        names = ("next_item", "contrast")
        variance = dict.fromkeys(names[: len(changes)], 0.0)
        for number, dropout in enumerate(self.dropouts, start=1):
            terms = dropout.terms(torch.cat(changes))
            surrogate = (terms.sum(0) * dropout.logit).sum()
            logs["loss"] = logs["loss"] + (surrogate - surrogate.detach())
            for name, part in zip(variance, terms.split([len(change) for change in changes]), strict=True):
                variance[name] = variance[name] + len(part) * part.var(0, correction=0).sum()
            logs[f"keep_{number}"] = torch.sigmoid(dropout.logit.detach()).mean()
        return logs | {f"gradient_sd_{name}": value.sqrt() for name, value in variance.items()}

    def optimize(self, batch: Batch, update: Callable[..., None]) -> dict[str, Tensor]:
        """Make one step, and clip the keep probabilities to their range if there is one."""
        logs = super().optimize(batch, update)
        if self.logit_range is not None:
            with torch.no_grad():
                for dropout in self.dropouts:
                    dropout.logit.clamp_(*self.logit_range)
        return logs
