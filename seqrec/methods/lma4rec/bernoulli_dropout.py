"""Learnable Bernoulli dropout (Boluki et al., AISTATS 2020), as LMA4Rec uses it."""

import torch
from torch import Tensor, nn

from seqrec.backbones.layout import CellLayout


class BernoulliDropout(nn.Module):
    """Dropout of `units` outputs whose keep probability eta(beta) = sigmoid(beta) is learned; identity in evaluation.

    Units are kept where u < eta(beta), for uniform u, and scaled by 1 / eta(beta). `per_unit` gives every unit its own logit
    beta. With `share_positions` a batch row has one mask for all its slots. With `pathwise` the scale has a
    gradient; the draws have ARM's (see LMA4Rec). `mirrored` keeps units where u > eta(-beta) instead.
    """

    def __init__(self, units: int, keep: float, per_unit: bool, share_positions: bool, pathwise: bool):
        super().__init__()
        self.units, self.share_positions, self.pathwise = units, share_positions, pathwise
        self.logit = nn.Parameter(torch.full((units if per_unit else 1,), keep).logit())
        self.mirrored = False
        self.layout: CellLayout | None = None  # of the cells of the next pass
        # of the last plain pass: sum of u - 1/2 over the draws of a batch row and a unit, [B, units]
        self.noise: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of cells [N, units] or of padded rows [B, L, units]."""
        if not self.training:
            return x
        rows = self.layout.shape[0]
        uniform = torch.rand((rows, self.units) if self.share_positions else x.shape, device=x.device)
        with torch.no_grad():
            if self.mirrored:
                opened = uniform > torch.sigmoid(-self.logit)
            else:
                opened = uniform < torch.sigmoid(self.logit)
                self.noise = self._per_row(uniform - 0.5)
            if self.share_positions:
                opened = opened[self.layout.row] if x.dim() == 2 else opened[:, None]
        keep = torch.sigmoid(self.logit if self.pathwise else self.logit.detach())
        return x * opened * (1 / keep)

    def terms(self, change: Tensor) -> Tensor:
        """Return each batch row's term of the ARM gradient of the logits, [B, 1] or [B, units].

        `change` [B] is the change of the loss attributed to each row: f(mirrored) - f(plain) (eq. 2).
        """
        terms = change[:, None] * self.noise
        return terms if len(self.logit) == self.units else terms.sum(1, keepdim=True)

    def _per_row(self, noise: Tensor) -> Tensor:
        """Sum noise over the slots of each batch row, [B, units]; cells that only pad a block are ignored."""
        if self.share_positions:
            return noise
        if noise.dim() == 3:
            return noise.sum(1)
        real = self.layout.destination == self.layout.index
        return noise.new_zeros(self.layout.shape[0], self.units).index_add(0, self.layout.row[real], noise[real])
