"""SASRec: causal self-attention over the history (Kang and McAuley, ICDM 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqrec.backbones.base import Backbone
from seqrec.backbones.dropout import Dropout, dropout
from seqrec.backbones.layout import CellLayout, length_blocks

LARGEST = 2**25  # attention weights that are kept for the backward pass; of more, it computes them again
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class SASRec(Backbone):
    """Transformer encoder with a causal mask.

    `norm_first` normalises before each branch (and once at the end), otherwise after each residual sum as in BERT, with
    a LayerNorm on the embeddings too; "original" as in the authors' code: keys and values are not normalised, and a
    residual sum adds the normalised input. `scale_embedding` multiplies item embeddings by sqrt(D) as the original
    does. `feedforward` is the inner width as a multiple of D; `inner_dropout` acts between its two projections.
    """

    takes_key_bias = True

    def __init__(
        self,
        dim: int,
        max_len: int,
        layers: int,
        heads: int,
        feedforward: int,
        activation: str,
        dropout: float,
        attention_dropout: float,
        inner_dropout: float,
        norm_first: bool | str,
        scale_embedding: bool,
        count_from: str,
    ):
        super().__init__(max_len, count_from)
        self.norm_first = norm_first
        self.scale = dim**0.5 if scale_embedding else 1.0
        self.position = nn.Embedding(max_len, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            SASRecLayer(dim, heads, feedforward, activation, dropout, attention_dropout, inner_dropout, norm_first)
            for _ in range(layers)
        )
        self.initialise()

    def layout(self, mask: Tensor) -> CellLayout:
        """Choose the cells of mask [B, T]: blocks of rows of similar length."""
        return length_blocks(mask)

    def run(self, x: Tensor, positions: Tensor, layout: CellLayout) -> Tensor:
        """Encode cells x [N, D] at `positions` [N]; returns [N, D]."""
        x = x * self.scale + self.position(positions)
        x = self.dropout(x if self.norm_first else self.norm(x))
        for layer in self.layers:
            x = layer(x, layout)
        return self.norm(x) if self.norm_first else x


class SASRecLayer(nn.Module):
    """Attention branch and feed-forward branch, each in a residual sum."""

    def __init__(self, dim, heads, feedforward, activation, dropout, attention_dropout, inner_dropout, norm_first):
        super().__init__()
        self.heads, self.attention_dropout, self.norm_first = heads, attention_dropout, norm_first
        self.activation = ACTIVATIONS[activation]
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.inner, self.outer = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)
        self.attention_output_dropout, self.inner_dropout = Dropout(dropout), Dropout(inner_dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, layout: CellLayout) -> Tensor:
        """Run one layer over cells [N, D]."""
        if self.norm_first == "original":
            query = self.attention_norm(x)
            x = self.feedforward_norm(query + self.attend(query, layout, x))
            return x + self.feed(x)
        if self.norm_first:
            x = x + self.attend(self.attention_norm(x), layout)
            return x + self.feed(self.feedforward_norm(x))
        x = self.attention_norm(x + self.attend(x, layout))
        return self.feedforward_norm(x + self.feed(x))

    def attend(self, x: Tensor, layout: CellLayout, context: Tensor | None = None) -> Tensor:
        """Causal multi-head attention within each row, of cells x [N, D] over themselves, or over `context` [N, D]."""
        rate = self.attention_dropout if self.training else 0.0
        projected = self.query_key_value(x) if context is None else self.project(x, context)
        mixed = []
        # the gradient of a slice would cover all N cells, most of it zeros
        sizes = [rows * width for rows, width in layout.blocks]
        blocks, biases = projected.split(sizes), [None] * len(sizes)
        if layout.key_bias is not None:
            biases = layout.key_bias.split(sizes)
        for block, bias, (rows, width) in zip(blocks, biases, layout.blocks, strict=True):
            query, key, value = block.view(rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended = causal_attention(query, key, value, rate, None if bias is None else bias.view(rows, 1, 1, width))
            mixed.append(attended.transpose(1, 2).reshape(rows * width, -1))
        return self.attention_output_dropout(self.output(torch.cat(mixed)))

    def project(self, x: Tensor, context: Tensor) -> Tensor:
        """Queries of x [N, D] next to keys and values of `context` [N, D], as [N, 3 D]."""
        dim, weight, bias = x.shape[1], self.query_key_value.weight, self.query_key_value.bias
        return torch.cat([F.linear(x, weight[:dim], bias[:dim]), F.linear(context, weight[dim:], bias[dim:])], 1)

    def feed(self, x: Tensor) -> Tensor:
        """Feed-forward branch on cells [N, D]."""
        return self.dropout(self.outer(self.inner_dropout(self.activation(self.inner(x)))))


def causal_attention(query: Tensor, key: Tensor, value: Tensor, rate: float, bias: Tensor | None = None) -> Tensor:
    """Attend to the same and older slots, [rows, heads, T, D / heads] each, with `rate` of the weights dropped.

    `bias` [rows, 1, 1, T] is added to the logits of each key. Of many long rows weights are not kept for the backward pass.
    """
    if bias is None and (not rate or query.device.type != "cpu"):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
    rows = max(1, LARGEST // (query.shape[1] * query.shape[2] ** 2))
    if len(query) <= rows:
        return weighted(query, key, value, rate, bias)
    biases = [None] * -(-len(query) // rows) if bias is None else bias.split(rows)
    parts = zip(query.split(rows), key.split(rows), value.split(rows), biases, strict=True)
    return torch.cat([checkpoint(weighted, *part, rate, own, use_reentrant=False) for *part, own in parts])


def weighted(query: Tensor, key: Tensor, value: Tensor, rate: float, bias: Tensor | None) -> Tensor:
    """Compute `causal_attention` with its weights, [rows, heads, T, T]."""
    newer = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).triu(1)
    logits = (query / query.shape[-1] ** 0.5) @ key.transpose(-2, -1)
    logits = logits if bias is None else logits + bias
    return dropout(logits.masked_fill_(newer, -torch.inf).softmax(-1), rate) @ value
