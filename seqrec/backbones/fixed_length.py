"""Base of backbones that filter whole sequences over a fixed number of slots."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.backbones.base import Backbone
from seqrec.backbones.dropout import Dropout
from seqrec.backbones.layout import CellLayout, all_cells


class FixedLength(Backbone):
    """Layers over exactly L = `max_len` slots: shorter batches are left-padded, padding and holes are zero items.

    Every slot depends on every other, so it is not causal, and it computes on padding by construction. A layer maps slots
    x [B, L, D], of which `real` [B, L] hold an item, to [B, L, D], or with `newest` to the last slot alone, [B, 1, D].
    """

    causal = False

    def __init__(self, dim: int, max_len: int, dropout: float, layers: Iterable[nn.Module]):
        super().__init__(max_len, count_from="end")
        self.position = nn.Embedding(max_len, dim)
        self.norm = nn.LayerNorm(dim)
        self.embedding_dropout = Dropout(dropout)
        self.layers = nn.ModuleList(layers)
        self.initialise()

    def layout(self, mask: Tensor) -> CellLayout:
        """Take every slot of mask [B, T]."""
        return all_cells(mask)

    def run(self, x: Tensor, positions: Tensor, layout: CellLayout) -> Tensor:
        """Encode slots x [B * T, D] at `positions` [B * T]; returns [B * T, D]."""
        rows, width = layout.shape
        pad = self.max_len - width
        real = F.pad((layout.destination == layout.index).view(rows, width), (pad, 0))
        x = F.pad(x.view(rows, width, -1), (0, 0, pad, 0)) * real[..., None]
        padding = torch.arange(pad, device=x.device).expand(rows, pad)
        x = x + self.position(torch.cat([padding, positions.view(rows, width)], 1))
        x = self.embedding_dropout(self.norm(x))
        for layer in self.layers[:-1]:
            x = layer(x, real)
        if layout.newest:
            return F.pad(self.layers[-1](x, real, newest=True), (0, 0, width - 1, 0)).flatten(0, 1)
        return self.layers[-1](x, real)[:, pad:].flatten(0, 1)
