"""Replacement of items at given positions of the input: by random items, or by those that hurt most to first order."""

import re

import numpy as np
import torch

from seqrec.data.loader import EvalLoader
from seqrec.data.sequences import Sequences, ranges
from seqrec.data.split import EvalSplit
from seqrec.evaluation.evaluator import rows_at_once
from seqrec.losses import CrossEntropy
from seqrec.methods.base import Method
from seqrec.noise.foreign_items import ForeignItems
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.gradients import frozen
from seqrec.utils.keyed_random import key, uniform

NAMED = ("first", "middle", "last", "random")
SLOT, ITEM = 1001, 1002  # purposes of random numbers; distinct from those of seqrec/noise
ROWS_AT_ONCE = 256  # with gradients


def newest(rows: Sequences, max_len: int) -> Sequences:
    """Return a copy of the last `max_len` items of each row, the visible input of a method, one row after the other."""
    start = np.maximum(rows.start, rows.stop - max_len)
    stop = np.cumsum(rows.stop - start)
    return Sequences(rows.items[ranges(start, rows.stop)], stop - (rows.stop - start), stop)


def joined(one: Sequences, other: Sequences) -> Sequences:
    """Return each row of `one` followed by the same row of `other`."""
    row = np.concatenate([one.pairs()[0], other.pairs()[0]])
    items = np.concatenate([one.pairs()[1], other.pairs()[1]])
    stop = np.cumsum(one.lengths + other.lengths)
    return Sequences(items[row.argsort(kind="stable")], np.concatenate([[0], stop[:-1]]), stop)


def slots(rows: Sequences, position: str, count: int, keys: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows [N] and the offsets into rows.items [N] of the items to replace.

    first, last, middle: that end or the middle of the row; random: positions drawn by (seed, key of the row [R]); -o: the o-th
    item from the end and the count - 1 before it. A row with fewer items there gives those, possibly none.
    """
    length = rows.lengths
    size = np.minimum(count, length)
    if position == "random":
        row = np.repeat(np.arange(len(rows)), length)
        slot = ranges(np.zeros(len(rows), np.int64), length)
        order = np.lexsort((uniform(seed, SLOT, keys[row], slot), row))
        chosen = order[slot < size[row]]  # the order keeps rows together, so that slot counts positions within a row
        return row[chosen], rows.start[row[chosen]] + slot[chosen]
    if position in NAMED:
        begin = {"first": 0 * length, "middle": (length - size) // 2, "last": length - size}[position]
    else:
        end = length + int(position) + 1
        begin, size = np.maximum(end - count, 0), np.clip(end, 0, count)
    begin = rows.start + begin
    return np.repeat(np.arange(len(rows)), size), ranges(begin, begin + size)


def check(positions: list[str]) -> None:
    """Raise UserError for an unknown position."""
    for position in positions:
        if position not in NAMED and not re.fullmatch(r"-0*[1-9]\d*", position):
            raise UserError(
                f"position '{position}': there are {', '.join(NAMED)} and offsets from the end like -1"
                + nearest(position, NAMED)
            )


def check_differentiable(method: Method) -> None:
    """Raise UserError for a method without the item embeddings that a gradient is taken at."""
    if not (hasattr(method, "items") and hasattr(method, "encode")):
        raise UserError(f"{type(method).__name__} has no item embeddings: leave out the gradient attack")


def replaced(rows: Sequences, offset: np.ndarray, item: np.ndarray) -> Sequences:
    """Return the rows with `item` [N] at `offset` [N] of their flat array."""
    items = rows.items.copy()
    items[offset] = item
    return Sequences(items, rows.start, rows.stop)


def random_items(
    split: EvalSplit, row: np.ndarray, offset: np.ndarray, keys: np.ndarray, seed: int, foreign: ForeignItems
) -> np.ndarray:
    """Return an item for each slot (row [N], offset [N]) that is not in the row of split.history, by (seed, key, slot), [N]."""
    slot = offset - split.inputs.start[row]
    return foreign.draw(split.history, row, key(seed, ITEM, keys[row], slot))


def gradient_items(method: Method, split: EvalSplit, offset: np.ndarray, device: torch.device) -> np.ndarray:
    """Return for each slot, an offset [N] into the inputs, the item j outside split.history with the largest g . (E[j] - e), [N].

    g is the gradient of the target's -log softmax over the catalogue with respect to the embedding e looked up at the slot.
    All slots of a row are evaluated at the clean input.
    """
    table = method.items.weight.detach()
    chosen, wanted = np.zeros(len(split.inputs.items), np.int64), np.zeros(len(split.inputs.items), bool)
    wanted[offset] = True
    chunk = rows_at_once(len(table) - 1, ROWS_AT_ONCE)
    loss = CrossEntropy(chunk)
    for _, batch in EvalLoader(split, chunk, int(split.inputs.lengths.max())):
        hit = torch.from_numpy(wanted[batch.index.numpy()]) & (batch.index >= 0)
        batch = batch.to(device)
        x = table[batch.seq].requires_grad_()
        with frozen(method.parameters(), method):
            value = loss.per_slot(method.encode(batch.seq, x=x, newest=True)[:, -1], batch.target[:, -1], table).sum()
            (gradient,) = torch.autograd.grad(value, x)
        gain = gradient[hit.to(device)] @ table.T
        owned = torch.zeros(len(batch.seq), len(table), dtype=torch.bool, device=device)
        owned[batch.seen] = True
        owned[:, 0] = True
        gain.masked_fill_(owned[hit.nonzero()[:, 0].to(device)], -torch.inf)
        chosen[batch.index.cpu()[hit]] = gain.argmax(1).cpu().numpy()
    return chosen[offset]
