"""The interface of a backbone; `backbones/layout.py` explains the shapes of tensors."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from seqrec.backbones.layout import CellLayout


class Backbone(nn.Module):
    """A sequence encoder over item embeddings.

    `causal`: the state of a slot depends on this slot and older ones only; for a backbone that is not causal the loader
    supervises only the last slot. `layers[i].dropout` is the dropout of the feed-forward branch (of the layer's output in
    GRU4Rec) and may be replaced. A table of positions, if any, is `position`, an Embedding: with `count_from="end"` the
    newest slot always has its last row, with "start" the oldest item of a row the first.
    """

    causal = True
    takes_key_bias = False
    layers: nn.ModuleList

    def __init__(self, max_len: int, count_from: str):
        super().__init__()
        self.max_len, self.count_from = max_len, count_from

    def initialise(self) -> None:
        """Draw the weights of linear layers and embeddings from N(0, 0.02^2); biases become 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def layout(self, mask: Tensor) -> CellLayout:
        """Choose the cells of mask [B, T] to run over, and their order."""
        raise NotImplementedError

    def run(self, x: Tensor, positions: Tensor, layout: CellLayout) -> Tensor:
        """Encode cells x [N, D] at `positions` [N] of the position table; returns [N, D]."""
        raise NotImplementedError

    def positions(self, mask: Tensor) -> Tensor:
        """Default position of every slot of mask [B, T], as [B, T]."""
        rows, width = mask.shape
        slot = torch.arange(width, device=mask.device).expand(rows, width)
        if self.count_from == "end":
            return slot + (self.max_len - width)
        oldest = mask.int().argmax(1, keepdim=True)
        return (slot - oldest).clamp(min=0)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        positions: Tensor | None = None,
        newest: bool = False,
        look_up: Callable | None = None,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """Encode item embeddings x [B, T, D] where mask [B, T] is True (holes allowed); returns [B, T, D], 0 where it is False.

        `positions` [B, T] are rows of the position table. With `newest` only the state of the last slot is valid, which
        saves computation. With `look_up`, a map from ids to embeddings, x has item ids [B, T], and only those of
        cells that are not padding are looked up. `key_bias` [B, T], of a backbone that `takes_key_bias`, is added to the logits of
        attention to each slot: log w makes it count w times.
        """
        layout = replace(self.layout(mask), newest=newest)
        if key_bias is not None:
            layout = replace(layout, key_bias=layout.gather(key_bias))
        cells = layout.gather(x)
        positions = layout.gather(self.positions(mask) if positions is None else positions)
        return layout.scatter(self.run(cells if look_up is None else look_up(cells), positions, layout))
