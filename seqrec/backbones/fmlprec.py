"""FMLP-Rec: learnable filters in the frequency domain (Zhou et al., WWW 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.backbones.dropout import Dropout
from seqrec.backbones.fixed_length import FixedLength


class FMLPRec(FixedLength):
    """Filter layers over exactly `max_len` slots, padding and holes included."""

    def __init__(self, dim: int, max_len: int, layers: int, feedforward: int, embedding_dropout: float, dropout: float):
        made = (FilterLayer(dim, max_len, feedforward, dropout) for _ in range(layers))
        super().__init__(dim, max_len, embedding_dropout, made)


class FilterLayer(nn.Module):
    """A filter branch and a feed-forward branch, each in a residual sum with a LayerNorm after it."""

    def __init__(self, dim: int, max_len: int, feedforward: int, dropout: float):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(max_len // 2 + 1, dim, 2) * 0.02)  # real and imaginary part
        self.filter_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inner, self.outer = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)
        self.filter_dropout, self.dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor, newest: bool = False) -> Tensor:
        """Run one layer over slots [B, L, D], whether `real` or not; returns [B, L, D], or [B, 1, D] with `newest`."""
        response, slots = torch.view_as_complex(self.filter), x.shape[1]
        if newest:  # the product of spectra is a circular convolution; only one slot of it is needed
            taps = torch.fft.irfft(response, n=slots, dim=0).flip(0)
            filtered, x = (taps * x).sum(1, keepdim=True), x[:, -1:]
        else:
            spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * response
            filtered = torch.fft.irfft(spectrum, n=slots, dim=1, norm="ortho")
        x = self.filter_norm(x + self.filter_dropout(filtered))
        return self.feedforward_norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))
