"""AutoSAM's sampler: the probability with which each item of a history is kept, and fixed random draws."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.backbones.dropout import Dropout
from seqrec.backbones.gru4rec import GRULayer
from seqrec.backbones.layout import CellLayout, length_blocks, packed_steps
from seqrec.backbones.sasrec import ACTIVATIONS, SASRecLayer
from seqrec.utils.errors import UserError, one_of, within
from seqrec.utils.keyed_random import key

KINDS = ("transformer", "rnn", "mlp")


class Sampler(nn.Module):
    """The policy pi_phi: p = softmax(MLP([block(e); W e + c]) / temperature)[0], of e = item + position embedding.

    One causal transformer block with its own weights (AutoSAM, arXiv 2311.00388, and the authors' code); of another `kind`
    it is a GRU, or a perceptron that sees one item at a time. With `own_positions` it has its own position table, for
    backbones without one. Raises UserError for a value that is not allowed or heads that do not fit.
    """

    def __init__(
        self,
        dim: int,
        max_len: int,
        own_positions: bool,
        heads: int,
        feedforward: int,
        activation: str,
        dropout: float,
        attention_dropout: float,
        gate: float,
        temperature: float,
        kind: str = "transformer",
    ):
        super().__init__()
        one_of("method.sampler.kind", kind, KINDS)
        one_of("method.sampler.activation", activation, ACTIVATIONS)
        within("method.sampler.heads", heads, 1)
        within("method.sampler.feedforward", feedforward, 1)
        if kind == "transformer" and dim % heads:
            raise UserError(f"method.sampler.heads={heads}: dim={dim} cannot be shared by so many, take a divisor")
        within("method.sampler.dropout", dropout, 0, 1)
        within("method.sampler.attention_dropout", attention_dropout, 0, 1)
        if not temperature > 0:
            raise UserError(f"method.sampler.temperature={temperature}: must be a number above 0")
        self.temperature, self.layout = temperature, packed_steps if kind == "rnn" else length_blocks
        if kind == "transformer":
            self.block = GatedLayer(dim, heads, feedforward, activation, dropout, attention_dropout, gate)
        else:
            self.block = (
                GRULayer(dim, dim, dropout) if kind == "rnn" else Perceptron(dim, feedforward, activation, dropout)
            )
        self.item = nn.Linear(dim, dim)
        self.join, self.choose = nn.Linear(2 * dim, dim), nn.Linear(dim, 2)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                query_key_value = module is getattr(self.block, "query_key_value", None)
                for part in module.weight.chunk(3 if query_key_value else 1):
                    nn.init.xavier_normal_(part)
                nn.init.constant_(module.bias, 0.1)
        self.position = nn.Embedding(max_len, dim) if own_positions else None
        if own_positions:
            nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, x: Tensor, layout: CellLayout) -> Tensor:
        """Return the probability of keeping each of the cells x [N, D] of a batch, [N]."""
        state = torch.cat([self.block(x, layout), self.item(x)], 1)
        return (self.choose(F.relu(self.join(state))) / self.temperature).softmax(1)[:, 0]


class GatedLayer(SASRecLayer):
    """A post-norm transformer layer, each branch multiplied by a learned scalar that starts at `gate`."""

    def __init__(self, dim, heads, feedforward, activation, dropout, attention_dropout, gate):
        super().__init__(dim, heads, feedforward, activation, dropout, attention_dropout, 0.0, norm_first=False)
        self.attention_gate, self.feedforward_gate = (nn.Parameter(torch.tensor(float(gate))) for _ in range(2))

    def attend(self, x: Tensor, layout: CellLayout) -> Tensor:
        """Gated attention branch on cells [N, D]."""
        return self.attention_gate * super().attend(x, layout)

    def feed(self, x: Tensor) -> Tensor:
        """Gated feed-forward branch on cells [N, D]."""
        return self.feedforward_gate * super().feed(x)


class Perceptron(nn.Module):
    """Two linear maps of each item by itself."""

    def __init__(self, dim: int, feedforward: int, activation: str, dropout: float):
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)
        self.activation, self.dropout = ACTIVATIONS[activation], Dropout(dropout)

    def forward(self, x: Tensor, layout: CellLayout) -> Tensor:
        """Return the states of cells [N, D]."""
        return self.dropout(self.outer(self.activation(self.inner(x))))


def fixed_uniform(seed: int, draws: int, user: Tensor, width: int) -> Tensor:
    """Return numbers in [0, 1) that are a function of (seed, draw, user, slot counted from the end), [draws, B, width]."""
    draw, slot = np.arange(draws)[:, None, None], np.arange(width - 1, -1, -1)
    bits = key(draw, user.cpu().numpy()[:, None], slot, start=seed) >> np.uint64(40)
    return torch.from_numpy((bits / 2**24).astype(np.float32)).to(user.device)
