"""FMLP-Rec: learnable filters in the frequency domain (Zhou et al., WWW 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.backbones.base import Backbone
from seqrec.backbones.dropout import Dropout
from seqrec.backbones.layout import CellLayout, all_cells


class FMLPRec(Backbone):
    """Filter layers over exactly `max_len` slots: shorter batches are left-padded, padding and holes are zero items.

    Every slot sees every other, so it is not causal, and it works on padding by construction.
    """

    causal = False

    def __init__(self, dim: int, max_len: int, layers: int, feedforward: int, embedding_dropout: float, dropout: float):
        super().__init__(max_len, count_from="end")
        self.position = nn.Embedding(max_len, dim)
        self.norm = nn.LayerNorm(dim)
        self.embedding_dropout = Dropout(embedding_dropout)
        self.layers = nn.ModuleList(FilterLayer(dim, max_len, feedforward, dropout) for _ in range(layers))
        self.initialise()

    def layout(self, mask: Tensor) -> CellLayout:
        """Take every slot of mask [B, T]."""
        return all_cells(mask)

    def run(self, x: Tensor, positions: Tensor, layout: CellLayout) -> Tensor:
        """Encode slots x [B * T, D] at `positions` [B * T]; returns [B * T, D]."""
        rows, width = layout.shape
        pad = self.max_len - width
        real = (layout.destination == layout.index).view(rows, width, 1)
        x = F.pad(x.view(rows, width, -1) * real, (0, 0, pad, 0))
        padding = torch.arange(pad, device=x.device).expand(rows, pad)
        x = x + self.position(torch.cat([padding, positions.view(rows, width)], 1))
        x = self.embedding_dropout(self.norm(x))
        for layer in self.layers[:-1]:
            x = layer(x)
        if layout.newest:
            return F.pad(self.layers[-1](x, newest=True), (0, 0, width - 1, 0)).flatten(0, 1)
        return self.layers[-1](x)[:, pad:].flatten(0, 1)


class FilterLayer(nn.Module):
    """A filter branch and a feed-forward branch, each in a residual sum with a LayerNorm after it."""

    def __init__(self, dim: int, max_len: int, feedforward: int, dropout: float):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(max_len // 2 + 1, dim, 2) * 0.02)  # real and imaginary part
        self.filter_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inner, self.outer = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)
        self.filter_dropout, self.dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, newest: bool = False) -> Tensor:
        """Run one layer over all slots [B, L, D]; returns [B, L, D], or with `newest` the last slot alone, [B, 1, D]."""
        response, slots = torch.view_as_complex(self.filter), x.shape[1]
        if newest:  # the product of spectra is a circular convolution, of which one slot is needed
            taps = torch.fft.irfft(response, n=slots, dim=0).flip(0)
            filtered, x = (taps * x).sum(1, keepdim=True), x[:, -1:]
        else:
            spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * response
            filtered = torch.fft.irfft(spectrum, n=slots, dim=1, norm="ortho")
        x = self.filter_norm(x + self.filter_dropout(filtered))
        return self.feedforward_norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))
