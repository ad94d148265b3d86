"""The noise operators of seqrec: functions that edit a Plan and return the number of items that they hit."""

import numpy as np

from seqrec.noise.plan import ITEM, SHIFT, Plan
from seqrec.noise.registry import operator
from seqrec.utils.keyed_random import uniform


@operator(0)
def insert(plan: Plan) -> int:
    """Insert foreign items into gaps. A row has one more gap than slots: a random one gets no item."""
    slots = np.flatnonzero(plan.chosen(plan.count(), plan.zone))
    closed = np.floor(plan.row_uniform(SHIFT) * (plan.length + 1))
    row, slot = plan.row[slots], plan.slot[slots]
    plan.add(row, slot - 0.5 + (slot >= closed[row]), plan.foreign_items(slots))
    return len(slots)


@operator(1)
def replace(plan: Plan) -> int:
    """Replace items by foreign ones."""
    slots = np.flatnonzero(plan.chosen(plan.count(), plan.zone))
    plan.items[slots] = plan.foreign_items(slots)
    plan.noise[slots] = True
    return len(slots)


@operator(2)
def delete(plan: Plan) -> int:
    """Remove items, but not the last one of a row."""
    hit = plan.chosen(np.minimum(plan.count(), plan.length - 1), plan.zone)
    plan.kept &= ~hit
    return int(hit.sum())


@operator(3, moves=True)
def swap(plan: Plan) -> int:
    """Swap adjacent items, in pairs that begin at even or at odd slots of the zone, depending on the row."""
    odd = plan.row_uniform(SHIFT) < 0.5
    position = plan.slot - (plan.begin + (odd & (plan.size > 2)))[plan.row]
    has_partner = plan.slot + 1 < (plan.begin + plan.size)[plan.row]
    first = np.flatnonzero(
        plan.chosen(plan.count(size=2), plan.zone & (position >= 0) & (position % 2 == 0) & has_partner)
    )
    plan.move(np.concatenate([first, first + 1]), np.concatenate([first + 1, first]))
    return 2 * len(first)


@operator(4, moves=True)
def shuffle(plan: Plan) -> int:
    """Shuffle the items of a window, or of several windows of a given size."""
    if plan.window is None:
        block = 0 * plan.slot
        hit = plan.stretch(np.minimum(plan.count(), plan.length))
    else:
        size = np.minimum(plan.window, plan.size)  # full windows only, at a random offset that leaves room for them
        shift = np.floor(plan.row_uniform(SHIFT) * (plan.size % size + 1)).astype(np.int64)
        position = plan.slot - (plan.begin + shift)[plan.row]
        block, offset = np.divmod(position, size[plan.row])
        first = plan.zone & (position >= 0) & (offset == 0) & (block < (plan.size // size)[plan.row])
        chosen = plan.chosen(plan.count(size), first)
        latest = np.maximum.accumulate(np.where(chosen, np.arange(len(chosen)), -1))
        hit = (latest >= 0) & (np.arange(len(chosen)) < (latest + size[plan.row])) & (plan.row[latest] == plan.row)
    slots = np.flatnonzero(hit)
    draw = uniform(plan.slot_keys(ITEM)[slots])
    plan.move(slots[np.lexsort((draw, block[slots], plan.row[slots]))], slots)
    return len(slots)


@operator(5)
def truncate(plan: Plan) -> int:
    """Cut out one segment, at the beginning, in the middle, at the end, or anywhere; at least one item remains."""
    hit = plan.stretch(np.clip(plan.count(), 0, plan.length - 1))
    plan.kept &= ~hit
    return int(hit.sum())


@operator(6)
def burst(plan: Plan) -> int:
    """Repeat one item of the row directly after itself."""
    count = plan.count()
    slots = np.flatnonzero(plan.chosen(np.minimum(count, 1), plan.zone))
    slots = np.repeat(slots, count[plan.row[slots]])
    repeated = plan.rows.items[plan.rows.start[plan.row[slots]] + plan.slot[slots]]
    plan.add(plan.row[slots], plan.slot[slots] + 0.25, repeated)
    return len(slots)
