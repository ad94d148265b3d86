"""Semi-Sinkhorn: from a probability matrix to a partial permutation, with gradients; reconstruction: see docs/methods/asarrec.md."""

import torch
from torch import Tensor


def semi_sinkhorn(probability: Tensor, iterations: int, power: float) -> Tensor:
    """Return the soft semi-doubly stochastic matrices [..., N, N] of `probability` [..., N, N] with row sums of at most 1.

    Each of the T = `iterations` rounds sharpens the rows by the exponent p = `power` at unchanged row mass, then scales
    columns, then rows down to a sum of at most 1. More rounds or a larger exponent give a harder matrix.
    """
    soft = probability
    for _ in range(iterations):
        sharp = soft.clamp(min=1e-12) ** power
        soft = sharp * (soft.sum(-1, keepdim=True) / (sharp.sum(-1, keepdim=True) + 1e-9))
        soft = soft / soft.sum(-2, keepdim=True).clamp(min=1)
        soft = soft / soft.sum(-1, keepdim=True).clamp(min=1)
    return soft


@torch.no_grad()
def discretise(soft: Tensor, threshold: float) -> Tensor:
    """Return the partial permutations [..., N, N] of 0 and 1 of the matrices [..., N, N].

    An entry of at least delta = `threshold` that is the maximum of its row and of its column becomes 1, and both
    are removed; this is repeated until there is none. Of equal entries the first one is chosen.
    """
    left = soft.masked_fill(soft < threshold, 0)
    hard = torch.zeros_like(soft)
    source = torch.arange(soft.shape[-2], device=soft.device)
    while True:
        best, column = left.max(-1)
        row = left.argmax(-2)
        accepted = (row.gather(-1, column) == source) & (best > 0)
        if not accepted.any():
            return hard
        hard.scatter_add_(-1, column.unsqueeze(-1), accepted.unsqueeze(-1).to(hard.dtype))
        left = left * (1 - hard.sum(-1, keepdim=True)) * (1 - hard.sum(-2, keepdim=True))


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return a tensor with the values of `hard` and the gradient of `soft`."""
    return hard + (soft - soft.detach())
