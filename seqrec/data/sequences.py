"""Sequences of items as views of flat arrays, and the index arithmetic on them."""

from dataclasses import dataclass

import numpy as np

from seqrec.utils.errors import UserError


@dataclass(frozen=True)
class Sequences:
    """Row r holds items[start[r]:stop[r]], oldest first."""

    items: np.ndarray  # [N] int32
    start: np.ndarray  # [R] int64
    stop: np.ndarray  # [R] int64

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        """Number of items per row, [R]."""
        return self.stop - self.start

    def take(self, rows: np.ndarray) -> "Sequences":
        """Return the given rows, in the given order."""
        return Sequences(self.items, self.start[rows], self.stop[rows])

    def same(self, other: "Sequences") -> bool:
        """Whether both have the same rows."""
        return np.array_equal(self.lengths, other.lengths) and np.array_equal(self.pairs()[1], other.pairs()[1])

    def item_counts(self, num_items: int) -> np.ndarray:
        """Count the occurrences of each item, [V + 1]."""
        return np.bincount(self.pairs()[1], minlength=num_items + 1)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all (row, item) pairs as two flat arrays."""
        offsets = ranges(self.start, self.stop)
        return np.repeat(np.arange(len(self)), self.lengths), self.items[offsets]


def ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return the concatenation of arange(start[r], stop[r]) over all r."""
    lengths = stop - start
    shift = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(start - shift, lengths)


def right_aligned(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return offsets [R, T] of the rows start[r]..stop[r]-1 into the flat array, -1 where a shorter row is padded at its left."""
    width = int((stop - start).max())
    offsets = stop[:, None] + np.arange(-width, 0)
    return np.where(offsets >= start[:, None], offsets, -1)


def powers(counts: np.ndarray, power: float, key: str) -> np.ndarray:
    """Return counts [V] to a power, float64; raises UserError, naming its `key`, if their sum is beyond all numbers."""
    with np.errstate(over="ignore"):
        found = counts.astype(float) ** power
        if not np.isfinite(found.sum()):
            raise UserError(f"{key}={power}: too large, the counts of the items to it are beyond all numbers")
    return found
