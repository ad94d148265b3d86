"""Perturbations of embeddings that increase a loss: fast gradient, its signs, PGD, and random directions as a control."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

DIRECTIONS = ("gradient", "sign", "random")


@dataclass(frozen=True)
class Perturbation:
    """A perturbation of embeddings that increases a loss, within a radius (in L2 per vector; per entry with "sign").

    It takes `steps` steps of `step_size` times the radius, and is projected on the radius after each.

    One step of size 1 along the gradient is the fast gradient method, radius * g / (||g|| + 1e-12) (Goodfellow et al.
    2015, in L2 as in APR, He et al. 2018); more steps are PGD (Madry et al. 2018).
    """

    direction: str
    steps: int
    step_size: float

    def __call__(self, loss_at: Callable[..., Tensor], gradients: list[Tensor], radii: list[Tensor]) -> list[Tensor]:
        """Return perturbations [..., D], without gradient; `gradients` are at the clean point, `loss_at` maps perturbations to a loss."""
        shifts = [torch.zeros_like(gradient) for gradient in gradients]
        for step in range(self.steps):
            if step:
                shifts = [shift.requires_grad_() for shift in shifts]
                gradients = torch.autograd.grad(loss_at(*shifts), shifts)
            shifts = [
                self._within(shift.detach() + self.step_size * radius * self._along(gradient), radius)
                for shift, gradient, radius in zip(shifts, gradients, radii, strict=True)
            ]
        return shifts

    def _along(self, gradient: Tensor) -> Tensor:
        if self.direction == "sign":
            return gradient.sign()
        vector = torch.randn_like(gradient) if self.direction == "random" else gradient
        return vector / (vector.norm(dim=-1, keepdim=True) + 1e-12)

    def _within(self, shift: Tensor, radius: Tensor) -> Tensor:
        if self.direction == "sign":
            return shift.clamp(-radius, radius)
        return shift * (radius / shift.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
