"""The floor of scripts/benchmark.py: SASRec's arithmetic on a CPU and nothing else, in plain PyTorch without seqrec.

Sequences are laid out once, several in a row; no file is read, nothing is logged or checked, and no metric is computed.
A training step and a full ranking of the product can at best come near it.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUESTIONS_AT_ONCE = 256
SLOTS_AT_ONCE = 128  # of the full cross-entropy


@dataclass(frozen=True)
class Packed:
    """One training batch: R rows of `max_len` cells that hold several sequences each."""

    item: Tensor  # [R, W]
    position: Tensor  # [R, W] from 0 in each sequence
    mask: Tensor  # [R, 1, W, W] 0 where a cell sees an older one of its own sequence, else -inf
    cell: Tensor  # [n] supervised cells of the flattened rows
    target: Tensor  # [n]


@dataclass(frozen=True)
class Group:
    """EvalSplit of like length."""

    item: Tensor  # [Q, W] oldest first, zeros after the newest
    last: Tensor  # [Q] slot of the newest item
    target: Tensor  # [Q]
    seen: tuple[Tensor, Tensor]  # (row, item) pairs that are no candidates


class Layer(nn.Module):
    """Attention and feed-forward branch of a pre-norm transformer."""

    def __init__(self, dim, heads, feedforward, dropout, attention_dropout):
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, feedforward * dim), nn.Linear(feedforward * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run over rows [R, W, D]; without a mask a cell sees all older ones of its row."""
        rows, width, dim = x.shape
        query, key, value = (
            self.project(self.first(x)).view(rows, width, 3 * self.heads, -1).transpose(1, 2).chunk(3, 1)
        )
        rate = self.attention_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, mask, rate, is_causal=mask is None)
        y = self.merge(y.transpose(1, 2).reshape(rows, width, dim))
        x = x + F.dropout(y, self.dropout, self.training)
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.second(x)))), self.dropout, self.training)


class Network(nn.Module):
    """SASRec."""

    def __init__(self, num_items, max_len, dim, layers, heads, feedforward, dropout, attention_dropout):
        super().__init__()
        self.dropout = dropout
        self.items, self.positions = nn.Embedding(num_items + 1, dim), nn.Embedding(max_len, dim)
        nn.init.normal_(self.items.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(dim, heads, feedforward, dropout, attention_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, item: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        """Return hidden states [R, W, D] of items [R, W]."""
        x = F.dropout(self.items(item) + self.positions(position), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class FullCrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(hidden @ table.T)[target]; gradients are made on the way, `SLOTS_AT_ONCE` slots at a time."""

    @staticmethod
    def forward(ctx, hidden, target, table):
        """Return the scalar loss of hidden states [n, D], targets [n] and the item table [V + 1, D]."""
        table_grad, total = torch.zeros_like(table), 0.0
        hidden_grad, buffer = torch.empty_like(hidden), hidden.new_empty(SLOTS_AT_ONCE, len(table))
        for first in range(0, len(target), SLOTS_AT_ONCE):
            states, wanted = hidden[first : first + SLOTS_AT_ONCE], target[first : first + SLOTS_AT_ONCE, None]
            scores = torch.mm(states, table.T, out=buffer[: len(states)])
            share = torch.softmax(scores, 1, out=scores)
            total -= share.gather(1, wanted).log().sum()
            torch.mm(share, table, out=hidden_grad[first : first + SLOTS_AT_ONCE])
            table_grad.addmm_(share.T, states)
        hidden_grad -= table[target]
        table_grad.index_add_(0, target, hidden, alpha=-1)
        ctx.save_for_backward(hidden_grad, table_grad)
        ctx.count = len(target)
        return total / ctx.count

    @staticmethod
    def backward(ctx, grad):
        """Scale the gradients that forward has made."""
        hidden_grad, table_grad = ctx.saved_tensors
        return hidden_grad * (grad / ctx.count), None, table_grad * (grad / ctx.count)


class Floor:
    """Times epochs and full rankings of a network of its own.

    `sequences` are the training sequences; question q asks for `targets[q]` after `inputs[q]`, without the candidates in
    inputs[q]. `loss` is bce (one uniform negative a slot) or cross_entropy. `network` has the arguments of Network.
    """

    name = "floor"

    def __init__(self, sequences, inputs, targets, num_items, max_len, batch_size, loss, lr, **network):
        self.loss, self.num_items = loss, num_items
        self.network = Network(num_items, max_len, **network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr, fused=True)
        sequences = [s[-max_len - 1 :] for s in sequences if len(s) > 1]
        order = np.random.default_rng(0).permutation(len(sequences))
        self.batches = [
            pack([sequences[i] for i in order[first : first + batch_size]], max_len)
            for first in range(0, len(order), batch_size)
        ]
        by_length = np.argsort([min(len(i), max_len) for i in inputs], kind="stable")
        self.groups = [
            group([inputs[i] for i in rows], targets[rows], max_len)
            for rows in np.split(by_length, range(QUESTIONS_AT_ONCE, len(by_length), QUESTIONS_AT_ONCE))
        ]

    def epoch(self) -> float:
        """Train an epoch; returns its seconds."""
        began = time.monotonic()
        self.network.train()
        for batch in self.batches:
            loss = self.loss_of(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return time.monotonic() - began

    def loss_of(self, batch: Packed) -> Tensor:
        """Return the mean loss over the supervised cells, a scalar."""
        table = self.network.items
        hidden = self.network(batch.item, batch.position, batch.mask).flatten(0, 1)[batch.cell]
        if self.loss == "cross_entropy":
            return FullCrossEntropy.apply(hidden, batch.target, table.weight)
        negative = torch.randint(1, self.num_items + 1, batch.target.shape)
        positive_score, negative_score = ((hidden * table(item)).sum(-1) for item in (batch.target, negative))
        return (F.softplus(-positive_score) + F.softplus(negative_score)).mean()

    def evaluate(self) -> float:
        """Rank the target of every question; returns the seconds."""
        began = time.monotonic()
        self.better()
        return time.monotonic() - began

    @torch.inference_mode()
    def better(self) -> list[Tensor]:
        """Count the candidates above the target, [Q] for each group of questions."""
        self.network.eval()
        counts, buffer = [], torch.empty(QUESTIONS_AT_ONCE, self.num_items + 1)
        for group in self.groups:
            position = torch.arange(group.item.shape[1]).expand_as(group.item)
            newest = self.network(group.item, position, None)[torch.arange(len(group.last)), group.last]
            scores = newest @ self.network.items.weight.T
            own = scores.gather(1, group.target[:, None])
            scores[:, 0] = -torch.inf
            scores[group.seen] = -torch.inf
            counts.append(torch.gt(scores, own, out=buffer[: len(scores)]).sum(1))
        return counts


def pack(sequences: list[np.ndarray], width: int) -> Packed:
    """Lay sequences of at most `width` + 1 items out: the longest first, each in the first row that has room."""
    lengths = np.array([len(s) - 1 for s in sequences])
    used = np.zeros(len(sequences), np.int64)
    row, first = np.empty_like(lengths), np.empty_like(lengths)
    for s in np.argsort(-lengths, kind="stable"):
        row[s] = np.argmax(used + lengths[s] <= width)
        first[s] = used[row[s]]
        used[row[s]] += lengths[s]
    rows = int((used > 0).sum())
    begin = np.repeat(row * width + first, lengths)
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    cell = begin + position
    laid = np.zeros((4, rows * width), np.int64)
    laid[:, cell] = (
        np.concatenate([s[:-1] for s in sequences]),
        position,
        np.repeat(np.arange(1, len(sequences) + 1), lengths),
        np.concatenate([s[1:] for s in sequences]),
    )
    item, place, owner, target = torch.from_numpy(laid).view(4, rows, width)
    visible = (owner[:, :, None] == owner[:, None, :]).tril().unsqueeze(1)
    mask = torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)  # attention with dropout is faster with floats
    supervised = target.flatten().nonzero().squeeze(1)
    return Packed(item, place, mask, supervised, target.flatten()[supervised])


def group(inputs: list[np.ndarray], target: np.ndarray, max_len: int) -> Group:
    """Lay questions out side by side."""
    shown = [i[-max_len:] for i in inputs]
    lengths = np.array([len(s) for s in shown])
    item = np.zeros((len(shown), lengths.max()), np.int64)
    item[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(shown)
    row, seen = np.repeat(np.arange(len(inputs)), [len(i) for i in inputs]), np.concatenate(inputs).astype(np.int64)
    return Group(*map(torch.from_numpy, (item, lengths - 1, target)), (torch.from_numpy(row), torch.from_numpy(seen)))
