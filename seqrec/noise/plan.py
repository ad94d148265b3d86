"""Noise on sequences: the edits that operators make, for all rows at once."""

from dataclasses import dataclass

import numpy as np

from seqrec.data.sequences import Sequences, ranges
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.registry import OPERATORS, NoiseSettings
from seqrec.utils.keyed_random import key, uniform

COUNT, POSITION, ITEM, SHIFT = range(4)  # purposes of random numbers


@dataclass(frozen=True)
class Corrupted:
    """Rows after noise: `noise` [N] is true for added items and replacements."""

    rows: Sequences
    noise: np.ndarray
    counts: dict[str, int]  # items hit, by operator


class Plan:
    """The edits that operators make to R clean rows with N items in all.

    An operator reads and changes `items` [N], `kept` [N] (false: the item is removed) and `noise` [N] (true: the item does
    not belong to the user), moves all three with `move`, and adds items with `add`. It can use `row` [N] and
    `slot` [N] (from 0, oldest first) of each item, `length` [R], the zone that `where` allows (`zone` [N], `begin` [R] and
    `size` [R]) and `window`. Random numbers come from `count`, `chosen`, `stretch`, `foreign_items`, `row_uniform` and
    `slot_keys` alone: they depend on the seed, the operator's number, the row's key and the slot, but not on the ratio,
    so that the items hit at a ratio are hit at every higher one.
    """

    def __init__(
        self,
        rows: Sequences,
        keys: np.ndarray,
        settings: NoiseSettings,
        seed: int,
        foreign: ForeignItems,
        labels: np.ndarray | None,
    ):
        self.rows, self.keys, self.seed, self.foreign = rows, keys, seed, foreign
        self.ratio, self.where, self.window = settings.ratio / len(settings.operators), settings.where, settings.window
        self.number = 0  # of the operator that is acting
        self.length = rows.lengths
        self.row = np.repeat(np.arange(len(rows)), self.length)
        self.slot = ranges(np.zeros(len(rows), np.int64), self.length)
        index = ranges(rows.start, rows.stop)
        self.items = rows.items[index]
        self.kept = np.ones(len(index), bool)
        self.noise = np.zeros(len(index), bool) if labels is None else labels[index]
        self._added: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, positions between slots, items
        third, length = -(-self.length // 3), self.length
        self.begin, end = {
            "anywhere": (0 * length, length),
            "begin": (0 * length, third),
            "middle": (length // 3, length - length // 3),
            "end": (length - third, length),
            "last": (np.maximum(length - settings.last, 0), length),
        }[settings.where]
        self.size = end - self.begin
        self.zone = (self.slot >= self.begin[self.row]) & (self.slot < end[self.row])

    def count(self, size: int | np.ndarray = 1) -> np.ndarray:
        """Return how often to act on each row, `size` items at a time, [R]: unbiased, and nested in the ratio."""
        return np.floor(self.ratio * self.length / size + self.row_uniform(COUNT)).astype(np.int64)

    def chosen(self, count: np.ndarray, eligible: np.ndarray) -> np.ndarray:
        """Choose `count` [R] of the eligible slots [N] of each row at random, [N] bool; fewer where there are fewer."""
        draw = np.where(eligible, 0.5 * uniform(self.slot_keys(POSITION)), 0.75)
        order = (self.row + draw).argsort(kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = self.slot
        return eligible & (rank < count[self.row])

    def stretch(self, count: np.ndarray) -> np.ndarray:
        """Choose one segment of `count` [R] adjacent slots in each row, [N] bool; a longer one contains a shorter one."""
        spare = self.length - count
        fraction = {"begin": 0.0, "middle": 0.5, "end": 1.0, "last": 1.0}.get(self.where, self.row_uniform(POSITION))
        first = np.minimum(np.floor(fraction * (spare + 1)).astype(np.int64), spare)
        return (self.slot >= first[self.row]) & (self.slot < (first + count)[self.row])

    def foreign_items(self, slots: np.ndarray) -> np.ndarray:
        """Return an item that the row does not have for each of the slots [M], from one donor for each row."""
        row = self.row[slots]
        donor = key(self.seed, self.number, ITEM, self.keys)[row]
        return self.foreign.draw(self.rows, row, self.slot_keys(ITEM)[slots], donor)

    def row_uniform(self, purpose: int) -> np.ndarray:
        """Return a random number in [0, 1) for each row, [R]; `purpose` is COUNT, POSITION, ITEM or SHIFT."""
        return uniform(self.seed, self.number, purpose, self.keys)

    def slot_keys(self, purpose: int) -> np.ndarray:
        """Return a random key for each slot, [N] uint64; `uniform` of it is a number in [0, 1)."""
        return key(self.seed, self.number, purpose, self.keys[self.row], self.slot)

    def move(self, origin: np.ndarray, destination: np.ndarray) -> None:
        """Move the items at slots `origin` [M] to slots `destination` [M], a permutation of them."""
        for values in (self.items, self.noise, self.kept):
            values[destination] = values[origin]

    def add(self, row: np.ndarray, position: np.ndarray, items: np.ndarray) -> None:
        """Add items [M] to rows [M] as noise; a position [M] of 2.5 is between slots 2 and 3."""
        self._added.append((row, position, items))

    def carried_out(self) -> tuple[Sequences, np.ndarray]:
        """Return the edited rows and their noise labels; a row that would be empty keeps its newest item."""
        left = np.bincount(self.row[self.kept], minlength=len(self.rows))
        newest = self.slot == self.length[self.row] - 1
        kept = self.kept | (newest & (left == 0)[self.row])
        row = np.concatenate([self.row[kept], *(added[0] for added in self._added)])
        position = np.concatenate([self.slot[kept].astype(float), *(added[1] for added in self._added)])
        items = np.concatenate([self.items[kept], *(added[2] for added in self._added)])
        noise = np.concatenate([self.noise[kept], *(np.ones(len(added[0]), bool) for added in self._added)])
        order = np.lexsort((position, row))
        stop = np.cumsum(np.bincount(row, minlength=len(self.rows)))
        start = np.concatenate([[0], stop[:-1]])
        return Sequences(items[order].astype(np.int32), start, stop), noise[order]


def corrupt(
    rows: Sequences,
    keys: np.ndarray,
    settings: NoiseSettings,
    seed: int,
    foreign: ForeignItems,
    labels: np.ndarray | None = None,
) -> Corrupted:
    """Return rows with noise: floor(r n + u) items of a row of n are hit, r = ratio / number of operators, u uniform.

    `keys` [R] uint64 identify the rows; the result is a function of a row, its key and the seed. A row keeps at least one
    item. `labels` are true for those of rows.items that were noise before.
    """
    plan = Plan(rows, keys, settings, seed, foreign, labels)
    counts = dict.fromkeys(settings.operators, 0)
    for name in sorted(settings.operators, key=lambda name: OPERATORS[name].moves):
        plan.number = OPERATORS[name].number
        counts[name] = OPERATORS[name].act(plan)
    return Corrupted(*plan.carried_out(), counts)
