"""Noise operators on sequences: a function of the rows, of a key per row and of a seed alone, for all rows at once.

Every operator acts on the slots of the clean rows, and what it does to one slot does not depend on the ratio. So noise is
nested: whatever is hit at a ratio is hit at every higher one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqrec.data.sequences import Sequences, ranges
from seqrec.noise.foreign_items import ForeignItems
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.keyed_random import key, uniform

# The number of an operator is a word of its random key: it must never change, or all noise would.
OPERATORS = {"insert": 0, "replace": 1, "delete": 2, "swap": 3, "shuffle": 4, "truncate": 5, "burst": 6}
MOVES = ("swap", "shuffle")  # they come after the others: a replaced or deleted item moves as such
WHERE = ("anywhere", "begin", "middle", "end", "last")
COUNT, PLACE, ITEM, SHIFT = range(4)  # what a number is drawn for


@dataclass(frozen=True)
class Corrupted:
    """Rows after noise: `noise` [N] says which of their items were added or put in the place of others."""

    rows: Sequences
    noise: np.ndarray
    counts: dict[str, int]  # items hit, by operator


def corrupt(
    rows: Sequences,
    keys: np.ndarray,
    operators: Sequence[str],
    ratio: float,
    seed: int,
    foreign: ForeignItems,
    where: str = "anywhere",
    last: int = 1,
    window: int | None = None,
    labels: np.ndarray | None = None,
) -> Corrupted:
    """Return rows with noise: floor(r n + u) items of a row of n are hit, r = ratio / number of operators, u uniform.

    `keys` [R] uint64 tell the rows apart. insert and burst add items, replace, delete and truncate hit that many, swap hits
    two at a time, shuffle a window of that many (several of `window` items each where that is given). `where`: anywhere,
    the begin, middle or end third, or the `last` items. A row keeps at least one item. `labels` says which items of
    rows.items were noise before. Raises UserError as `check` does.
    """
    check(operators, ratio, where, last, window)
    plan = _Plan(rows, keys, ratio / len(operators), seed, foreign, where, last, window, labels)
    counts = {name: int(getattr(plan, name)()) for name in sorted(operators, key=MOVES.__contains__)}
    return plan.carried_out({name: counts[name] for name in operators})


def check(operators: Sequence[str], ratio: float, where: str, last: int, window: int | None) -> None:
    """Raise UserError, naming the key and the value, for a value that makes no sense."""
    if isinstance(operators, str) or not operators or len(set(operators)) < len(operators):
        raise UserError(f"noise.operators={operators}: must be a list of different operators, like [insert,delete]")
    for name in operators:
        if name not in OPERATORS:
            raise UserError(f"noise: no operator '{name}'; there are {', '.join(OPERATORS)}{nearest(name, OPERATORS)}")
    if where not in WHERE:
        raise UserError(f"noise.where={where}: there are {', '.join(WHERE)}{nearest(str(where), WHERE)}")
    if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise UserError(f"noise.ratio={ratio}: must be a number from 0 to 1")
    least = 2 if "swap" in operators and where == "last" else 1
    if not isinstance(last, int) or last < least:
        raise UserError(f"noise.last={last}: must be a whole number of at least {least}")
    if window is not None and (not isinstance(window, int) or window < 2):
        raise UserError(f"noise.window={window}: must be null or a whole number of at least 2")


class _Plan:
    """What is to happen to the slots of the clean rows. Its operators return the number of items they hit."""

    def __init__(self, rows, keys, ratio, seed, foreign, where, last, window, labels):
        self.rows, self.keys, self.ratio, self.seed, self.foreign = rows, keys, ratio, seed, foreign
        self.where, self.window, self.length = where, window, rows.lengths
        self.row = np.repeat(np.arange(len(rows)), self.length)
        self.slot = ranges(np.zeros(len(rows), np.int64), self.length)
        index = ranges(rows.start, rows.stop)
        self.items = rows.items[index]
        self.kept = np.ones(len(index), bool)
        self.noise = np.zeros(len(index), bool) if labels is None else labels[index]
        self.added: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, places between slots, items
        third, length = -(-self.length // 3), self.length
        begin, end = {
            "anywhere": (0 * length, length),
            "begin": (0 * length, third),
            "middle": (length // 3, length - length // 3),
            "end": (length - third, length),
            "last": (np.maximum(length - last, 0), length),
        }[where]
        self.begin, self.size = begin, end - begin
        self.zone = (self.slot >= begin[self.row]) & (self.slot < end[self.row])

    def count(self, operator: str, size: int | np.ndarray = 1) -> np.ndarray:
        """Return how often the operator acts on each row, `size` items at a time, [R]: unbiased, and nested in the ratio."""
        draw = uniform(self.seed, OPERATORS[operator], COUNT, self.keys)
        return np.floor(self.ratio * self.length / size + draw).astype(np.int64)

    def key(self, operator: str, purpose: int) -> np.ndarray:
        """Return a key of each slot, [N]."""
        return key(self.seed, OPERATORS[operator], purpose, self.keys[self.row], self.slot)

    def chosen(self, operator: str, count: np.ndarray, eligible: np.ndarray) -> np.ndarray:
        """Choose `count` [R] of the eligible slots of each row, in an order that is the slots' own, [N] bool."""
        draw = np.where(eligible, 0.5 * uniform(self.key(operator, PLACE)), 0.75)
        order = (self.row + draw).argsort(kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = self.slot
        return eligible & (place < count[self.row])

    def stretch(self, operator: str, count: np.ndarray) -> np.ndarray:
        """Choose one stretch of `count` [R] neighbouring slots in each row, [N] bool; a longer one contains a shorter one."""
        spare = self.length - count
        share = uniform(self.seed, OPERATORS[operator], PLACE, self.keys)
        share = {"begin": 0.0, "middle": 0.5, "end": 1.0, "last": 1.0}.get(self.where, share)
        first = np.minimum(np.floor(share * (spare + 1)).astype(np.int64), spare)
        return (self.slot >= first[self.row]) & (self.slot < (first + count)[self.row])

    def draw_items(self, operator: str, slots: np.ndarray) -> np.ndarray:
        """Return a foreign item for each of the slots [M], of one donor for a row."""
        row = self.row[slots]
        donor = key(self.seed, OPERATORS[operator], ITEM, self.keys)[row]
        return self.foreign.draw(self.rows, row, self.key(operator, ITEM)[slots], donor)

    def insert(self) -> int:
        """Put foreign items into gaps, of which a row has one more than slots: one of them, at random, stays closed."""
        slots = np.flatnonzero(self.chosen("insert", self.count("insert"), self.zone))
        closed = np.floor(uniform(self.seed, OPERATORS["insert"], SHIFT, self.keys) * (self.length + 1))
        row, slot = self.row[slots], self.slot[slots]
        place = slot - 0.5 + (slot >= closed[row])
        self.added.append((row, place, self.draw_items("insert", slots)))
        return len(slots)

    def replace(self) -> int:
        """Put foreign items in the place of others."""
        slots = np.flatnonzero(self.chosen("replace", self.count("replace"), self.zone))
        self.items[slots] = self.draw_items("replace", slots)
        self.noise[slots] = True
        return len(slots)

    def delete(self) -> int:
        """Remove items, but not the last one of a row."""
        hit = self.chosen("delete", np.minimum(self.count("delete"), self.length - 1), self.zone)
        self.kept &= ~hit
        return hit.sum()

    def swap(self) -> int:
        """Exchange neighbours, in pairs that begin at even or at odd slots of the zone, by row."""
        odd = uniform(self.seed, OPERATORS["swap"], SHIFT, self.keys) < 0.5
        place = self.slot - (self.begin + (odd & (self.size > 2)))[self.row]
        begins = self.zone & (place >= 0) & (place % 2 == 0) & (self.slot + 1 < (self.begin + self.size)[self.row])
        slots = np.flatnonzero(self.chosen("swap", self.count("swap", 2), begins))
        for values in (self.items, self.noise, self.kept):
            values[slots], values[slots + 1] = values[slots + 1], values[slots].copy()
        return 2 * len(slots)

    def shuffle(self) -> int:
        """Bring the items of a window, or of several windows of a given size, into a random order."""
        if self.window is None:
            block = 0 * self.slot
            hit = self.stretch("shuffle", np.minimum(self.count("shuffle"), self.length))
        else:
            size = np.minimum(self.window, self.size)  # full windows only, at a shift that leaves room for them
            shift = uniform(self.seed, OPERATORS["shuffle"], SHIFT, self.keys) * (self.size % size + 1)
            place = self.slot - (self.begin + np.floor(shift).astype(np.int64))[self.row]
            block = place // size[self.row]
            begins = self.zone & (place >= 0) & (place % size[self.row] == 0) & (block < (self.size // size)[self.row])
            chosen = self.chosen("shuffle", self.count("shuffle", size), begins)
            latest = np.maximum.accumulate(np.where(chosen, np.arange(len(chosen)), -1))
            hit = (latest >= 0) & (np.arange(len(chosen)) < (latest + size[self.row])) & (self.row[latest] == self.row)
        slots = np.flatnonzero(hit)
        draw = uniform(self.key("shuffle", ITEM)[slots])
        order = slots[np.lexsort((draw, block[slots], self.row[slots]))]
        for values in (self.items, self.noise, self.kept):
            values[slots] = values[order]
        return len(slots)

    def truncate(self) -> int:
        """Cut a stretch away, at the begin, in the middle, at the end, or anywhere; one item stays."""
        hit = self.stretch("truncate", np.clip(self.count("truncate"), 0, self.length - 1))
        self.kept &= ~hit
        return hit.sum()

    def burst(self) -> int:
        """Repeat one item of the row directly behind itself."""
        count = self.count("burst")
        slots = np.flatnonzero(self.chosen("burst", np.minimum(count, 1), self.zone))
        slots = np.repeat(slots, count[self.row[slots]])
        repeated = self.rows.items[self.rows.start[self.row[slots]] + self.slot[slots]]
        self.added.append((self.row[slots], self.slot[slots] + 0.25, repeated))
        return len(slots)

    def carried_out(self, counts: dict[str, int]) -> Corrupted:
        """Return the rows that the plan leaves; a row of which nothing would be left keeps its newest item."""
        left = np.bincount(self.row[self.kept], minlength=len(self.rows))
        newest = self.slot == self.length[self.row] - 1
        kept = self.kept | (newest & (left == 0)[self.row])
        row = np.concatenate([self.row[kept], *(part[0] for part in self.added)])
        place = np.concatenate([self.slot[kept].astype(float), *(part[1] for part in self.added)])
        items = np.concatenate([self.items[kept], *(part[2] for part in self.added)])
        noise = np.concatenate([self.noise[kept], *(np.ones(len(part[0]), bool) for part in self.added)])
        order = np.lexsort((place, row))
        stop = np.cumsum(np.bincount(row, minlength=len(self.rows)))
        start = np.concatenate([[0], stop[:-1]])
        return Corrupted(Sequences(items[order].astype(np.int32), start, stop), noise[order], counts)
