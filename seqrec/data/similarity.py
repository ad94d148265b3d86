"""Item similarity by counts (ItemCF-IUF), by embeddings, and the hybrid of both, as tables of nearest items."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from seqrec.data.sequences import Sequences

BLOCK = 2**22  # entries of a similarity computed at a time
MOST_KEPT = 2**28  # entries of a similarity kept in memory, 2 GiB; beyond that rows are computed when needed


@dataclass(frozen=True)
class Nearest:
    """The most similar other item of every item; entry 0 belongs to padding and is 0."""

    item: Tensor  # [V + 1] int64
    score: Tensor  # [V + 1] float32, similarity after min-max normalisation


class Similarity:
    """Similarity of all pairs of items with a common user, [V + 1, V + 1] float32, computed a block of rows at a time.

    The entry of i and j is scale(sum over the users with both of weight(|items_u|), N_i, N_j), where |items_u|
    counts the distinct items of a row of `train` and N_i the rows that hold item i. The diagonal is empty, and so are
    row and column 0. Memory does not grow with the square of the longest history.
    """

    def __init__(self, train: Sequences, num_items: int, weight: Callable, scale: Callable, kind: type = np.float64):
        row, item = train.pairs()
        self.size, self.scale = num_items + 1, scale
        shape = (len(train), self.size)
        users = scipy.sparse.coo_array((np.ones(len(row), kind), (row, item)), shape=shape).tocsr()
        users.data[:] = 1  # repeats count once
        distinct = np.diff(users.indptr)
        self.weighted = users.copy()
        self.weighted.data *= np.repeat(weight(np.maximum(distinct, 1)), distinct).astype(kind)
        self.holders = users.T.tocsr()
        self.held = users.sum(0)
        self.width = np.minimum(self.holders.astype(np.int64) @ distinct, self.size)  # entries of a row, at most

    def rows(self, items: np.ndarray) -> scipy.sparse.csr_array:
        """Return the rows of some items, [R, V + 1], columns in ascending order."""
        both = self.holders[items] @ self.weighted
        count = np.diff(both.indptr)
        first = np.repeat(items, count)
        other = first != both.indices
        first, second = first[other], both.indices[other]
        # rounded to single precision last, so that pairs with equal counts stay equal
        value = self.scale(both.data[other], self.held[first], self.held[second]).astype(np.float32)
        start = np.concatenate(([0], np.cumsum(count - (count > 0))))  # an item that occurs is paired with itself
        similarity = scipy.sparse.csr_array((value, second, start), shape=(len(items), self.size))
        similarity.sort_indices()
        return similarity

    def blocks(self) -> Iterator[tuple[np.ndarray, scipy.sparse.csr_array]]:
        """Yield all items in ascending order, a block at a time, with their rows."""
        for items in _pieces(self.width):
            yield items, self.rows(items)

    def nearest(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return item [N], other item [N] and similarity [N] of the `count` nearest of each item, best first.

        Ties are broken by the lowest id.
        """
        found = []
        for items, rows in self.blocks():
            row = np.repeat(items, np.diff(rows.indptr))
            kept = largest_entries(rows, count)
            kept = kept[np.lexsort((-rows.data[kept], row[kept]))]
            found.append((row[kept], rows.indices[kept], rows.data[kept]))
        return tuple(np.concatenate(column) for column in zip(*found, strict=True))

    def sums(self, histories: scipy.sparse.csr_array) -> Iterator[tuple[np.ndarray, scipy.sparse.csr_array]]:
        """Yield rows of `histories` [R, V + 1], as many as memory allows, with the sums of their items' rows."""
        if self._kept is not None:
            yield np.arange(histories.shape[0]), histories @ self._kept
            return
        for part in _pieces(histories @ self.width):
            items = np.unique(histories[part].indices)
            yield part, histories[part][:, items] @ self.rows(items)

    @functools.cached_property
    def _kept(self) -> scipy.sparse.csr_array | None:
        parts, entries = [], 0
        for _, rows in self.blocks():
            parts.append(rows)
            entries += rows.nnz
            if entries > MOST_KEPT:
                return None
        return scipy.sparse.vstack(parts, format="csr")


def _pieces(width: np.ndarray) -> list[np.ndarray]:
    """Split 0, 1, ... into runs over which `width` adds up to about BLOCK at most."""
    return np.split(np.arange(len(width)), np.flatnonzero(np.diff(np.cumsum(width) // BLOCK)) + 1)


def largest_entries(rows: scipy.sparse.csr_array, count: int) -> np.ndarray:
    """Return which entries are the `count` largest of their row, in the order of storage; ties are broken by the first."""
    start, entries = rows.indptr[:-1], np.diff(rows.indptr)
    least = np.full(len(start), -np.inf, rows.dtype)
    for row in np.flatnonzero(entries > count):  # a few microseconds each, where one sort of all entries takes minutes
        least[row] = np.partition(rows.data[start[row] : start[row] + entries[row]], -count)[-count]
    least = np.repeat(least, entries)
    above, equal = rows.data > least, rows.data == least
    so_far = [np.concatenate(([0], np.cumsum(chosen))) for chosen in (above, equal)]
    free = count - np.diff(so_far[0][rows.indptr])
    return np.flatnonzero(above | (equal & (so_far[1][1:] <= np.repeat(so_far[1][start] + free, entries))))


def item_cf_iuf(train: Sequences, num_items: int) -> Similarity:
    """Return the ItemCF-IUF similarity, the default of CoSeRec's code (Liu et al. 2021).

    sim(i, j) = sum over users u with both of 1 / log(1 + |items_u|), over sqrt(N_i N_j).
    """
    return Similarity(
        train,
        num_items,
        lambda distinct: 1 / np.log1p(distinct),
        lambda both, held, other: both / np.sqrt(held * other),
    )


def top1(similarity: Similarity) -> Nearest:
    """Return the nearest item of each item; ties are broken by the lowest id.

    Scores are normalised by the smallest and the largest stored value. An item without any similar one gets another item
    at random, with score 0; it is drawn from torch's global generator.
    """
    size = similarity.size
    item = torch.randint(1, size - 1, (size,))  # one of the V - 1 others: the item itself is skipped
    item += item >= torch.arange(size)
    item[0] = 0
    score = torch.zeros(size)
    first, best, least = [], [], np.float32(np.inf)
    for items, rows in similarity.blocks():
        count = np.diff(rows.indptr)
        filled = np.flatnonzero(count)
        if not len(filled):
            continue
        most = np.maximum.reduceat(rows.data, rows.indptr[filled])
        at_best = np.flatnonzero(rows.data == np.repeat(most, count[filled]))
        _, index = np.unique(np.repeat(filled, count[filled])[at_best], return_index=True)
        first.append(np.stack([items[filled], rows.indices[at_best[index]]]))
        best.append(most)
        least = min(least, rows.data.min())
    if best:
        known, nearest = torch.from_numpy(np.concatenate(first, 1).astype(np.int64))
        value = np.concatenate(best)
        item[known] = nearest
        score[known] = _normalise(torch.from_numpy(value), least, value.max())
    return Nearest(item, score)


@torch.no_grad()
def embedding_top1(table: Tensor, chunk: int = 512) -> Nearest:
    """Return the nearest item of each item by the dot product of embeddings [V + 1, D]; ties are broken by the lowest id.

    Scores are normalised by the smallest and the largest product over all pairs of items, an item with itself included.
    At most `chunk` x V products exist at a time.
    """
    items = table[1:].float()
    nearest, best, least, largest = [], [], [], []
    for first in range(0, len(items), chunk):
        products = items[first : first + chunk] @ items.T
        least.append(products.amin())
        largest.append(products.amax())
        rows = torch.arange(len(products), device=table.device)
        products[rows, first + rows] = -torch.inf
        value, index = products.max(1)
        nearest.append(index + 1)
        best.append(value)
    score = _normalise(torch.cat(best), torch.stack(least).amin(), torch.stack(largest).amax())
    none = table.new_zeros(1)
    return Nearest(torch.cat([none.long(), *nearest]), torch.cat([none.float(), score]))


def hybrid(counted: Nearest, embedded: Nearest) -> Tensor:
    """Return, per item, the nearest item of whichever table has the larger score, [V + 1]; ties are broken for `counted`."""
    return torch.where(counted.score >= embedded.score, counted.item, embedded.item)


def _normalise(value: Tensor, least, largest) -> Tensor:
    return (value - least) / max(float(largest - least), 1e-12)
