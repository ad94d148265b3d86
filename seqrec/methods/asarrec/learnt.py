"""A budget and a weight of AsarRec's augmenter that are learnt with it; not in the paper: see docs/methods/asarrec.md."""

import math

import torch
from torch import Tensor, nn


class Shares(nn.Module):
    """Divides what the views of a batch may lose among its users: user u has s_u = R softmax_u(w . mean_i x_i) times the fixed budget.

    The mean of s over the R rows is 1, and at first all are 1.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Parameter(torch.zeros(dim))

    def forward(self, seen: Tensor, original: Tensor) -> Tensor:
        """Return the shares [R], given what the augmenter sees of the slots [R, N, D], of which `original` are the history's."""
        mean = (seen.float() * original[..., None]).sum(1) / original.sum(1, keepdim=True)
        return (mean @ self.score).softmax(0) * len(seen)


class Multiplier(nn.Module):
    """The weight of diversity as the Lagrange multiplier of the constraint that the views' mean distance is the margin.

    It rises while the distance is smaller, and falls while it is larger.
    """

    def __init__(self, start: float):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self, distance: Tensor, margin: float) -> Tensor:
        """Return weight x mean max(0, margin - d) for distances d [R], of which descent on the weight makes an ascent on margin - d."""
        weight, missing = self.log.exp(), margin - distance
        ascent = (weight - weight.detach()) * missing.detach().mean()  # its value is 0
        return weight.detach() * missing.relu().mean() - ascent
