"""BSARec: a frequency filter in parallel to self-attention (Shin et al., AAAI 2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.backbones.dropout import Dropout
from seqrec.backbones.fixed_length import FixedLength


class BSARec(FixedLength):
    """Layers that mix a frequency rescaler with self-attention; post-norm, GELU, after the authors' code.

    `filter_weight` is the paper's alpha, `low_components` its c: of the L components of the spectrum the lowest c, that is
    the frequencies up to c // 2 with both signs, are low (an even c is c + 1). The filter sees all slots, padding included,
    so the backbone is not causal; items attend to items up to themselves.
    """

    def __init__(
        self,
        dim: int,
        max_len: int,
        layers: int,
        heads: int,
        filter_weight: float,
        low_components: int,
        feedforward: int,
        dropout: float,
        attention_dropout: float,
    ):
        options = heads, filter_weight, low_components, feedforward, dropout, attention_dropout
        super().__init__(dim, max_len, dropout, (BSARecLayer(dim, max_len, *options) for _ in range(layers)))


class BSARecLayer(nn.Module):
    """alpha F + (1 - alpha) A of a filter branch F and an attention branch A, then a feed-forward branch.

    Each branch ends in a residual sum with a LayerNorm after it. The filter is low + beta^2 * high per dimension; the
    parameter is beta, here `root_scale`.
    """

    def __init__(self, dim, max_len, heads, filter_weight, low_components, feedforward, dropout, attention_dropout):
        super().__init__()
        self.heads, self.filter_weight = heads, filter_weight
        self.register_buffer("low_pass", low_pass(max_len, low_components), persistent=False)
        self.root_scale = nn.Parameter(torch.randn(dim))
        self.query, self.key_value, self.output = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.inner, self.outer = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)
        self.filter_norm, self.attention_norm, self.feedforward_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.filter_dropout, self.output_dropout, self.dropout = (Dropout(dropout) for _ in range(3))
        self.weight_dropout = Dropout(attention_dropout)

    def forward(self, x: Tensor, real: Tensor, newest: bool = False) -> Tensor:
        """Run one layer over slots [B, L, D], `real` or not; returns [B, L, D], or [B, 1, D] with `newest`."""
        own = x[:, -1:] if newest else x
        low = self.low_pass[-own.shape[1] :] @ x
        filtered = low + self.root_scale.square() * (own - low)
        filtered = self.filter_norm(own + self.filter_dropout(filtered))
        attended = self.attention_norm(own + self.output_dropout(self.attend(own, x, real)))
        x = self.filter_weight * filtered + (1 - self.filter_weight) * attended
        return self.feedforward_norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))

    def attend(self, own: Tensor, x: Tensor, real: Tensor) -> Tensor:
        """Multi-head attention of the last K slots, own [B, K, D], over `real` slots of x [B, L, D] not newer than they are.

        A padding slot without an item before it attends to all slots, as in the authors' code.
        """
        slots, kept = x.shape[1], own.shape[1]
        newer = torch.ones(kept, slots, dtype=torch.bool, device=x.device).triu(slots - kept + 1)
        begun = real.cumsum(1)[:, -kept:, None] > 0
        hidden = (newer | ~real[:, None]) & begun
        query = self.query(own).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        logits = (query / query.shape[-1] ** 0.5) @ key.transpose(-2, -1)
        weights = self.weight_dropout(logits.masked_fill(hidden[:, None], -torch.inf).softmax(-1))
        return self.output((weights @ value).transpose(1, 2).flatten(2))


def low_pass(slots: int, components: int) -> Tensor:
    """Return the projection [L, L] of sequences of L `slots` on the frequencies 0 to `components` // 2.

    A product with it took a third of the time of a discrete Fourier transform and its inverse at 50 slots.
    """
    spectrum = torch.fft.rfft(torch.eye(slots, dtype=torch.double), dim=0)
    spectrum[components // 2 + 1 :] = 0
    return torch.fft.irfft(spectrum, n=slots, dim=0).float()
