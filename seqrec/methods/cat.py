"""CAT: cascade-guided adversarial training (arXiv 2304.05492); reconstruction: see docs/methods/cat.md."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqrec.backbones.base import Backbone
from seqrec.batch import Batch
from seqrec.cascade import CROSS, cascade_effects, inverse_weights, others_effects, shuffled
from seqrec.data.sequences import Sequences, right_aligned
from seqrec.errors import UserError
from seqrec.losses import NextItemLoss
from seqrec.methods.base import Method

WEIGHTS = ("cascade", "uniform", "shuffled", "position", "none")
DIRECTIONS = ("gradient", "sign", "random")
LEVEL2 = ("both", "items")
NORM_SAMPLE = 1024  # training sequences that the mean norm of hidden states is taken over


class CAT(Method):
    """Adversarial training of history embeddings and of the matching, scaled by inverse cascade effects.

    Reconstruction: see docs/methods/cat.md, which also explains every argument. Stage 0 is plain training, or is left
    out where `stage1` names the directory of a plain run; the last stage minimises L_rec + lambda1 * L_adv1 +
    lambda2 * L_adv2 for `stage2_epochs` epochs. Raises UserError on values that make no sense and on a `stage1` that
    is no finished run of the same shape.
    """

    def __init__(
        self,
        backbone: Callable[..., Backbone],
        loss: NextItemLoss,
        num_items: int,
        dim: int,
        max_len: int,
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
        super().__init__(backbone, loss, num_items, dim, max_len)
        _one_of("weights", weights, WEIGHTS)
        _one_of("direction", direction, DIRECTIONS)
        _one_of("level2", level2, LEVEL2)
        _one_of("cross", cross, CROSS)
        for key, value, least in (
            ("stage2_epochs", stage2_epochs, 1),
            ("lambda1", lambda1, 0),
            ("lambda2", lambda2, 0),
            ("rho", rho, 0),
            ("steps", steps, 1),
            ("step_size", step_size, 0),
            ("clip_weights", 1 if clip_weights is None else clip_weights, 1),
            ("decay", decay, 0),
        ):
            if not value >= least:
                raise UserError(f"method.{key}={value}: must be at least {least}")
        self.stage1, self.stage2_epochs = stage1, stage2_epochs
        self.weights, self.clip_weights, self.direction, self.level2 = weights, clip_weights, direction, level2
        self.lambda1, self.lambda2, self.rho, self.steps, self.step_size = lambda1, lambda2, rho, steps, step_size
        self.decay, self.cross = (1.0, "none") if weights == "position" else (decay, cross)
        self.batch_size, self.prefixes = batch_size, prefixes or not self.backbone.causal
        self.stages = 2 if stage1 is None else 1
        self.adversarial = False
        self.register_buffer("item_radius", torch.zeros(()))  # eps and eps_j of the page
        self.register_buffer("user_radius", torch.zeros(()))  # eps_h

    def setup(self, train: Sequences) -> None:
        """Compute the cascade effects of all interactions, and keep some sequences to measure hidden states on."""
        effect, direct = cascade_effects(train, self.max_len, self.prefixes, self.decay, self.cross, self.batch_size)
        user = np.flatnonzero(train.lengths >= 2)
        user = user[np.linspace(0, len(user) - 1, min(len(user), NORM_SAMPLE)).astype(np.int64)]
        stop = train.stop[user] - 1
        index = right_aligned(np.maximum(train.start[user], stop - self.max_len), stop)
        sample = torch.from_numpy(np.where(index >= 0, train.items[index], 0).astype(np.int64))
        for name, value in (("effect", effect.float()), ("direct", direct.float()), ("sample", sample)):
            self.register_buffer(name, value, persistent=False)

    def on_stage(self, stage: int) -> int | None:
        """Begin plain training (None: until early stopping), or the adversarial stage and its fixed number of epochs."""
        if stage + 1 < self.stages:
            return None
        if self.stage1 is not None:
            self.load_stage1(Path(self.stage1))
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

    def load_stage1(self, folder: Path) -> None:
        """Take item table and backbone from the best epoch of the run in `folder`; raises UserError, naming method.stage1."""
        key = f"method.stage1={folder}"
        if not (folder / "DONE").exists():
            raise UserError(f"{key}: no finished run there; give the run directory of a plain run")
        try:
            saved = torch.load(folder / "best.pt", map_location="cpu", weights_only=True)["model"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(
                f"{key}: cannot read best.pt ({type(error).__name__}); was the run a trained one?"
            ) from error
        here, there = (
            {k: v for k, v in s.items() if k.startswith(("items.", "backbone."))} for s in (self.state_dict(), saved)
        )
        shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in (here, there)]
        for name in here | there:
            mine, its = (shape.get(name, "missing") for shape in shapes)
            if mine != its:
                raise UserError(
                    f"{key}: {name} is {its} there and {mine} here; take the same dataset, backbone, dim and max_len"
                )
        self.load_state_dict(there, strict=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return L = L_rec + lambda1 * L_adv1 + lambda2 * L_adv2 and its parts; plain training before the last stage."""
        if not self.adversarial:
            return super().losses(batch)
        supervised = batch.target > 0
        target, negative = batch.target[supervised], batch.negative
        if negative is not None and negative.dim() == 3:
            negative = negative[supervised]
        sampled = {} if negative is None else {"sampled": self.items(negative)}

        def next_item(hidden: Tensor, **embeddings: Tensor) -> Tensor:
            return self.loss(hidden, target, self.items.weight, negative, **embeddings)

        x = self.items(batch.seq)
        hidden = self.encode(batch.seq, x=x)[supervised]
        clean = next_item(hidden, **sampled)
        logs = {"loss": clean, "loss_clean": clean}
        x_gradient, hidden_gradient, *sampled_gradient = torch.autograd.grad(
            clean, [x, hidden, *sampled.values()], retain_graph=True
        )
        if self.lambda1:
            weight = self.slot_weights(batch)

            def level1(base: Tensor, shift: Tensor) -> Tensor:
                return next_item(self.encode(batch.seq, x=base + shift)[supervised], **sampled)

            radius = self.item_radius * weight[..., None]
            (shift,) = self.ascend(lambda s: level1(x.detach(), s), [x_gradient], [radius])
            logs["loss_adv1"] = level1(x, shift)
            logs["weight_newest"] = weight[:, -1].mean()
            logs["loss"] = logs["loss"] + self.lambda1 * logs["loss_adv1"]
        if self.lambda2:
            names = ["positive", *sampled]
            clean_point = [hidden, self.items(target), *sampled.values()]

            def level2(point: list[Tensor], shifts: list[Tensor]) -> Tensor:
                user, *items = (value + shift for value, shift in zip(point, shifts, strict=True))
                return next_item(user, **dict(zip(names, items, strict=True)))

            # every loss falls with the target's score, so its gradient there is a negative multiple of the hidden state
            gradients = [hidden_gradient, -hidden.detach(), *sampled_gradient]
            user_radius = self.user_radius if self.level2 == "both" else torch.zeros_like(self.user_radius)
            radii = [user_radius, self.item_radius, *(self.item_radius for _ in sampled)]
            frozen = [value.detach() for value in clean_point]
            shifts = self.ascend(lambda *s: level2(frozen, s), gradients, radii)
            logs["loss_adv2"] = level2(clean_point, shifts)
            logs["loss"] = logs["loss"] + self.lambda2 * logs["loss_adv2"]
        return logs

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

    def ascend(self, loss_at: Callable[..., Tensor], gradients: list[Tensor], radii: list[Tensor]) -> list[Tensor]:
        """Return perturbations within `radii`, by `steps` steps up the loss; `gradients` are those of the clean point.

        One step of size 1 is the fast gradient method, delta = radius * g / (||g|| + 1e-12).
        """
        shifts = [torch.zeros_like(gradient) for gradient in gradients]
        for step in range(self.steps):
            if step:
                shifts = [shift.requires_grad_() for shift in shifts]
                gradients = torch.autograd.grad(loss_at(*shifts), shifts)
            shifts = [
                self.within(shift.detach() + self.step_size * radius * self.unit(gradient), radius)
                for shift, gradient, radius in zip(shifts, gradients, radii, strict=True)
            ]
        return shifts

    def unit(self, gradient: Tensor) -> Tensor:
        """Return the direction of a step for gradients [..., D]."""
        if self.direction == "sign":
            return gradient.sign()
        along = torch.randn_like(gradient) if self.direction == "random" else gradient
        return along / (along.norm(dim=-1, keepdim=True) + 1e-12)

    def within(self, shift: Tensor, radius: Tensor) -> Tensor:
        """Project shifts [..., D] onto the ball of `radius`, or for signs the box."""
        if self.direction == "sign":
            return shift.clamp(-radius, radius)
        return shift * (radius / shift.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"method.{key}={value}: choose one of {', '.join(choices)}")
