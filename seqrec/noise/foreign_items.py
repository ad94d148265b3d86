"""Foreign items: items that a user does not have, to be put into the user's history as noise."""

import numpy as np

from seqrec.data.sequences import Sequences, powers
from seqrec.data.similarity import item_cf_iuf
from seqrec.utils.errors import UserError, one_of, within
from seqrec.utils.keyed_random import uniform

SOURCES = ("uniform", "popularity", "cooccurring", "donor")
NEIGHBOURS = 20  # similar items of an item that source=cooccurring draws from
SOURCE_DRAWS = 100  # draws from the source before uniform ones
ALL_DRAWS = 1000  # draws before an error: the user has every item


class ForeignItems:
    """Draws items from a source with the statistics of the training set.

    uniform: all items equally likely; popularity: in proportion to training counts to the `power`; cooccurring: one of the 20 items
    most similar (ItemCF-IUF) to a random item of the row, hard to distinguish from the user's own; donor: an item of another
    user. Where the source has nothing that the row does not have, the draw becomes uniform.
    `keys` [U] uint64 identify the users, so that their order does not matter. Raises UserError for another source, and
    for a power below 0.
    """

    def __init__(self, train: Sequences, keys: np.ndarray, num_items: int, source: str, power: float):
        one_of("noise.source", source, SOURCES)
        within("noise.power", power, 0)
        self.train, self.num_items, self.source = train, num_items, source
        if source == "popularity":
            counts = train.item_counts(num_items)[1:]
            self.ladder = np.cumsum(np.where(counts > 0, powers(counts, power, "noise.power"), 0))
        elif source == "cooccurring":
            self.similar, self.degree = _most_similar(train, num_items)
        elif source == "donor":
            users = np.argsort(keys, kind="stable")
            self.donors = users[train.lengths[users] > 0]

    def draw(self, rows: Sequences, row: np.ndarray, key: np.ndarray, donor: np.ndarray | None = None) -> np.ndarray:
        """Return an item for each (row [N], key [N] uint64) that is not in that row of `rows`, [N]; nothing else matters.

        `donor` [N] uint64: items with equal numbers come from the same donor. Raises UserError if a row holds every item.
        """
        donor = key if donor is None else donor
        width = self.num_items + 1
        own_row, own_item = rows.pairs()
        own = np.unique(own_row * width + own_item)
        drawn = np.zeros(len(row), np.int64)
        pending = np.arange(len(row))
        for attempt in range(ALL_DRAWS):
            if not len(pending):
                return drawn
            item = self._propose(rows, row[pending], key[pending], donor[pending], attempt)
            drawn[pending] = item
            pair = row[pending] * width + item
            index = np.minimum(np.searchsorted(own, pair), len(own) - 1)
            pending = pending[(own[index] == pair) | (item == 0)]
        raise UserError(
            f"noise.source={self.source}: no item found that a user with {rows.lengths[row[pending[0]]]} items does not have"
        )

    def _propose(
        self, rows: Sequences, row: np.ndarray, key: np.ndarray, donor: np.ndarray, attempt: int
    ) -> np.ndarray:
        """Return an item per row, which may be one of its own; 0 where the source has none."""
        first = uniform(key, attempt, 0)
        if self.source == "uniform" or attempt >= SOURCE_DRAWS:
            return (first * self.num_items).astype(np.int64) + 1
        if self.source == "popularity":
            return np.searchsorted(self.ladder, first * self.ladder[-1], side="right") + 1
        second = uniform(key, attempt, 1)
        if self.source == "cooccurring":
            near = rows.items[rows.start[row] + (first * rows.lengths[row]).astype(np.int64)]
            return self.similar[near, (second * self.degree[near]).astype(np.int64)]
        user = self.donors[(uniform(donor, attempt // 4) * len(self.donors)).astype(np.int64)]
        return self.train.items[self.train.start[user] + (second * self.train.lengths[user]).astype(np.int64)]


def _most_similar(train: Sequences, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the most similar items of every item, best first, [V + 1, 20] with 0 where there are fewer, and how many, [V + 1]."""
    item, other, _ = item_cf_iuf(train, num_items).nearest(NEIGHBOURS)
    degree = np.bincount(item, minlength=num_items + 1)
    similar = np.zeros((num_items + 1, NEIGHBOURS), np.int64)
    similar[item, np.arange(len(item)) - np.repeat(np.cumsum(degree) - degree, degree)] = other
    return similar, degree
