"""CAT: cascade-guided adversarial training (arXiv 2304.05492); reconstruction: see docs/methods/cat.md."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences, right_aligned
from seqrec.methods.base import Method, ModelSpec
from seqrec.methods.cat.cascade import CROSS, cascade_effects, inverse_weights, others_effects, shuffled, single
from seqrec.methods.cat.perturbation import DIRECTIONS, Perturbation
from seqrec.utils.checkpoint import take_over
from seqrec.utils.errors import UserError, one_of, within

WEIGHTS = ("cascade", "uniform", "shuffled", "position", "none")
LEVEL2 = ("both", "items")
PLAIN = ("items.", "backbone.")  # content of a plain run
NORM_SAMPLE = 1024  # training sequences over which the mean norm of hidden states is computed


class CAT(Method):
    """Adversarial training of history embeddings and of the matching, scaled by inverse cascade effects.

    Reconstruction: see docs/methods/cat.md, which also explains every argument. Stage 1 is plain training, or is left
    out where `stage1` names the directory of a plain run; the last stage minimises L_rec + lambda1 * L_adv1 +
    lambda2 * L_adv2 for `stage2_epochs` epochs. Raises UserError on invalid values and on a `stage1` that
    is no finished run of the same shape.
    """

    finished_runs = ("stage1",)
    goes_on_from = "stage1"

    def __init__(
        self,
        spec: ModelSpec,
        stage1: str | None,
        stage2_epochs: int,
        weights: str,
        lambda1: float,
        lambda2: float,
        rho: float,
        direction: str,
        level2: str,
        steps: int,
        step_size: float,
        clip_weights: float | None,
        decay: float,
        cross: str,
        batch_size: int,
        prefixes: bool,
    ):
        super().__init__(spec)
        one_of("method.weights", weights, WEIGHTS)
        one_of("method.direction", direction, DIRECTIONS)
        one_of("method.level2", level2, LEVEL2)
        one_of("method.cross", cross, CROSS)
        for key, value, least in (
            ("stage2_epochs", stage2_epochs, 1),
            ("lambda1", lambda1, 0),
            ("lambda2", lambda2, 0),
            ("rho", rho, 0),
            ("steps", steps, 1),
            ("step_size", step_size, 0),
            ("clip_weights", 1 if clip_weights is None else clip_weights, 1),
            ("decay", decay, 0),
            ("batch_size", batch_size, 1),
        ):
            within(f"method.{key}", value, least)
        if decay == 0:  # later predictions would not count, and a weight is the inverse of the count
            raise UserError("method.decay=0: must be above 0")
        self.stage1, self.stage2_epochs = stage1, stage2_epochs
        self.weights, self.clip_weights, self.level2 = weights, clip_weights, level2
        self.lambda1, self.lambda2, self.rho = lambda1, lambda2, rho
        self.perturbation = Perturbation(direction, steps, step_size)
        self.decay, self.cross = (1.0, "none") if weights == "position" else (decay, cross)
        self.batch_size, self.prefixes = batch_size, prefixes or not self.backbone.causal
        self.stages = 2 if stage1 is None else 1
        self.adversarial = False
        self.register_buffer("item_radius", torch.zeros(()))  # ε of the page
        self.register_buffer("user_radius", torch.zeros(()))  # ε_h of the page

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Return why the method cannot work with this loss or backbone class, or None if it can."""
        if loss is not None and loss.in_batch:
            return (
                "it perturbs targets, which would be negatives of other slots: take a loss without in-batch negatives"
            )
        return super().refuse(loss, backbone)

    def setup(self, train: Sequences) -> None:
        """Compute the cascade effects of all interactions, and keep some sequences to compute the norm of hidden states on."""
        effect, direct = cascade_effects(train, self.max_len, self.prefixes, self.decay, self.cross, self.batch_size)
        user = np.flatnonzero(train.lengths >= 2)
        user = user[np.linspace(0, len(user) - 1, min(len(user), NORM_SAMPLE)).astype(np.int64)]
        stop = train.stop[user] - 1
        index = right_aligned(np.maximum(train.start[user], stop - self.max_len), stop)
        sample = torch.from_numpy(np.where(index >= 0, train.items[index], 0).astype(np.int64))
        for name, value in (("effect", single(effect)), ("direct", single(direct)), ("sample", sample)):
            self.register_buffer(name, value, persistent=False)

    def on_start(self) -> None:
        """Start from the weights of the plain run `stage1`, if there is one."""
        if self.stage1 is not None:
            take_over(self, PLAIN, self.stage1, "method.stage1", "take the same dataset, backbone, dim and max_len")

    def on_stage(self, stage: int) -> int | None:
        """Begin plain training (None: until early stopping), or the adversarial stage and its fixed number of epochs."""
        if stage + 1 < self.stages:
            return None
        self.adversarial = self.weights != "none"
        if self.adversarial:
            self.fix_radii()
        return self.stage2_epochs

    @torch.no_grad()
    def fix_radii(self) -> None:
        """Set eps = rho * mean norm of the item embeddings, eps_h = rho * mean norm of the hidden states."""
        was_training = self.training
        self.eval()
        hidden = self.encode(self.sample)
        hidden = hidden[:, -1] if self.prefixes else hidden[self.sample > 0]
        self.train(was_training)
        self.item_radius.copy_(self.rho * self.items.weight[1:].norm(dim=-1).mean())
        self.user_radius.copy_(self.rho * hidden.norm(dim=-1).mean())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return L = L_rec + lambda1 * L_adv1 + lambda2 * L_adv2 and its parts; plain training before the last stage."""
        if not self.adversarial:
            return super().losses(batch)
        supervised = batch.target > 0
        target, negative = batch.target[supervised], batch.negatives_at(supervised)

        def next_item(hidden: Tensor, **embeddings: Tensor) -> Tensor:
            return self.loss(hidden, target, self.items.weight, negative, **embeddings)

        x = self.items(batch.seq)
        encode = partial(self.encode, batch.seq, newest=self.newest_alone)
        hidden = encode(x=x)[supervised]
        sampled = {} if negative is None else {"sampled": self.items(negative)}
        clean = next_item(hidden, **sampled)
        points = [hidden, *sampled.values(), *([x] if self.lambda1 else [])]
        gradients = torch.autograd.grad(clean, points, retain_graph=True)

        logs = {"loss": clean, "loss_clean": clean}
        if self.lambda1:
            weight = self.slot_weights(batch)
            radius = self.item_radius * weight[..., None]
            (shift,) = self.perturbation(
                lambda s: next_item(encode(x=x.detach() + s)[supervised], **sampled), gradients[-1:], [radius]
            )
            logs["loss_adv1"] = next_item(encode(x=x + shift)[supervised], **sampled)
            logs["loss"] = logs["loss"] + self.lambda1 * logs["loss_adv1"]
            logs["weight_newest"] = weight[:, -1].mean()
        if self.lambda2:
            matched = {"hidden": hidden, "positive": self.items(target), **sampled}
            # every loss decreases with the target's score, so its gradient there is a negative multiple of the hidden state
            gradients = [gradients[0], -hidden.detach(), *gradients[1 : 1 + len(sampled)]]
            user_radius = self.user_radius if self.level2 == "both" else torch.zeros_like(self.user_radius)
            radii = [user_radius] + [self.item_radius] * (len(matched) - 1)

            def shifted(start: Iterable[Tensor], shifts: Iterable[Tensor]) -> Tensor:
                return next_item(**{k: v + s for k, v, s in zip(matched, start, shifts, strict=True)})

            frozen = [value.detach() for value in matched.values()]
            shifts = self.perturbation(lambda *s: shifted(frozen, s), gradients, radii)
            logs["loss_adv2"] = shifted(matched.values(), shifts)
            logs["loss"] = logs["loss"] + self.lambda2 * logs["loss_adv2"]
        return logs

    def position_profile(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weight of each item's perturbation, for figures."""
        if self.weights == "none" or not self.lambda1:
            return {}
        return {"weight": self.slot_weights(batch).where(batch.seq > 0, torch.nan)}

    def slot_weights(self, batch: Batch) -> Tensor:
        """Return w(u, t) of every slot, [B, T]: mean 1 over the real slots of a row, 0 at padding."""
        mask = batch.seq > 0
        if self.weights == "uniform":
            return mask.to(self.effect.dtype)
        effect = self.effect[batch.index]
        if self.cross == "batch":
            user = batch.user[:, None].expand_as(mask)[mask]
            effect[mask] += others_effects(user, batch.seq[mask], self.direct[batch.index[mask]])
        weight = inverse_weights(effect, mask, self.clip_weights)
        return shuffled(weight, mask) if self.weights == "shuffled" else weight
