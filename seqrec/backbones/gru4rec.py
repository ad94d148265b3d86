"""GRU4Rec: a recurrent encoder of the history (Hidasi et al., ICLR 2016)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqrec.backbones.base import Backbone
from seqrec.backbones.dropout import Dropout
from seqrec.backbones.layout import CellLayout, packed_steps

STEPS = 16  # of one call on a CPU


class GRU4Rec(Backbone):
    """Gated recurrent layers of width `hidden`, then a projection back to D.

    It has no position table. Padding and holes are skipped.
    """

    def __init__(self, dim: int, max_len: int, hidden: int, layers: int, embedding_dropout: float, dropout: float):
        super().__init__(max_len, count_from="end")
        self.embedding_dropout = Dropout(embedding_dropout)
        self.layers = nn.ModuleList(GRULayer(dim if i == 0 else hidden, hidden, dropout) for i in range(layers))
        self.project = nn.Linear(hidden, dim)

    def layout(self, mask: Tensor) -> CellLayout:
        """Choose the real cells of mask [B, T], step by step."""
        return packed_steps(mask)

    def run(self, x: Tensor, positions: Tensor, layout: CellLayout) -> Tensor:
        """Encode cells x [N, D]; `positions` are not used. Returns [N, D]."""
        x = self.embedding_dropout(x)
        if x.shape[0] == 0:  # len() would fix the size of an export
            return x
        for layer in self.layers:
            x = layer(x, layout)
        return self.project(x)


class GRULayer(nn.Module):
    """One recurrent layer and the dropout of its output."""

    def __init__(self, inputs: int, hidden: int, dropout: float):
        super().__init__()
        self.recurrent = nn.GRU(inputs, hidden)
        for name, parameter in self.recurrent.named_parameters():
            if name.startswith("weight"):
                for gate in parameter.chunk(3):
                    nn.init.xavier_uniform_(gate.data) if "ih" in name else nn.init.orthogonal_(gate.data)
            else:
                nn.init.zeros_(parameter)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, layout: CellLayout) -> Tensor:
        """Run over packed cells [N, D]; returns [N, hidden]. Rows of one block run side by side, as an export has them."""
        batch_sizes = layout.batch_sizes
        if batch_sizes is None:
            steps = x.view(*layout.blocks[0], -1).transpose(0, 1)
            start = x.new_zeros(1, steps.shape[1], self.recurrent.hidden_size)
            return self.dropout(self.recurrent(steps, start)[0].transpose(0, 1).flatten(0, 1))
        # on a CPU the gradient of a step fills a tensor as large as all steps of its call, so calls with few steps are faster
        pieces = batch_sizes.split(STEPS if x.device.type == "cpu" else len(batch_sizes))
        states, hidden = [], None
        for sizes, cells in zip(pieces, x.split([int(sizes.sum()) for sizes in pieces]), strict=True):
            running = None if hidden is None else hidden[:, : sizes[0]]
            state, hidden = self.recurrent(PackedSequence(cells, sizes), running)
            states.append(state.data)
        return self.dropout(torch.cat(states))
