"""Items that AsarRec may insert into a history; reconstruction: see docs/methods/asarrec.md."""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences, ranges
from seqrec.data.similarity import item_cf_iuf
from seqrec.data.transitions import history_weights

SOURCES = ("similar", "random", "popularity")
PLACES = ("left", "beside")
NEAREST = 20  # similar items of each item among which a candidate beside it is looked for
CHUNK = 1024  # users whose similar items are summed at a time


class Candidates(nn.Module):
    """Chooses `count` items per history, none of them in the user's training history.

    source "similar": the largest ItemCF-IUF similarity, summed over the last `recent` items of the history; "random" and
    "popularity": drawn in each step, uniformly or by training counts. A slot is empty (0) where no similar item
    is left, or where a drawn item is the user's own or a repeat. Candidates of whole histories come from a table computed by
    `setup`, [U, count]; those of shorter prefixes are computed when needed. With place "beside" there is one for each item
    instead: "similar" is then the nearest of the item's own `NEAREST`.
    """

    def __init__(self, num_items: int, count: int, source: str, recent: int, place: str = "left"):
        super().__init__()
        self.num_items, self.count, self.source, self.recent, self.place = num_items, count, source, recent, place

    def setup(self, train: Sequences) -> None:
        """Take similarity, counts and the users' own items from the training sequences."""
        user, item = train.pairs()
        if self.source != "similar":
            counts = np.bincount(item, minlength=self.num_items + 1).astype(np.float32)
            weight = counts if self.source == "popularity" else np.ones_like(counts)
            weight[0] = 0
            self.register_buffer("weight", torch.from_numpy(weight), persistent=False)
            own = np.unique(user * (self.num_items + 1) + item.astype(np.int64))
            self.register_buffer("own", torch.from_numpy(own), persistent=False)
            return
        self.similarity = item_cf_iuf(train, self.num_items)
        if self.place == "beside":
            self.register_buffer("table", torch.from_numpy(self._beside(train, user, item)), persistent=False)
            return
        self.own_items = scipy.sparse.coo_array(
            (np.ones(len(user), np.float32), (user, item)), shape=(len(train), self.num_items + 1)
        ).tocsr()
        last = train.stop - 2  # the newest training item is a target only
        table = np.zeros((len(train), self.count), np.int64)
        for first in range(0, len(train), CHUNK):
            rows = np.arange(first, min(first + CHUNK, len(train)))
            offset = last[rows, None] - np.arange(self.recent)
            recent = np.where(offset >= train.start[rows, None], train.items[offset.clip(0)], 0)
            table[rows] = self._similar(rows, recent)
        self.register_buffer("last", torch.from_numpy(last), persistent=False)
        self.register_buffer("table", torch.from_numpy(table.astype(np.int32)), persistent=False)

    def forward(self, batch: Batch, rows: Tensor) -> Tensor:
        """Return the candidates of the given rows [R] of a batch: best first, [R, count], or beside each slot, [R, T]."""
        user, real = batch.user[rows], batch.seq[rows] > 0
        if self.place == "beside":
            found = self.table[batch.index[rows]] if self.source == "similar" else self._drawn(user, real.shape[1])
            return found * real
        if self.source != "similar":
            return self._drawn(user, self.count)
        found = self.table[user].long()
        prefix = (batch.index[rows, -1] != self.last[user]).nonzero()[:, 0]
        if len(prefix):
            recent = batch.seq[rows[prefix], -self.recent :]
            similar = self._similar(user[prefix].cpu().numpy(), recent.cpu().numpy())
            found[prefix] = torch.from_numpy(similar).to(found.device)
        return found

    def _similar(self, user: np.ndarray, recent: np.ndarray) -> np.ndarray:
        """Return the items most similar to `recent` [R, candidate_recent], [R, count]."""
        history = history_weights(recent, 1.0, recent.shape[1], self.num_items)
        # Own items are ranked below all others.
        found = [
            largest((score - 1e9 * self.own_items[user[rows]]).tocsr(), self.count)
            for rows, score in self.similarity.sums(history)
        ]
        return np.concatenate(found)

    def _beside(self, train: Sequences, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return, at each offset of the flat arrays, the nearest item to the one there that is not the user's, 0 for none."""
        first, other, _ = self.similarity.nearest(NEAREST)
        start = np.searchsorted(first, np.arange(self.num_items + 2))
        own, user = np.unique(user * (self.num_items + 1) + item.astype(np.int64)), user.astype(np.int64)
        chosen, left = np.zeros(len(item), np.int64), np.arange(len(item))
        for place in range(NEAREST):
            left = left[start[item[left]] + place < start[item[left] + 1]]
            found = other[start[item[left]] + place]
            new = ~np.isin(user[left] * (self.num_items + 1) + found, own)
            chosen[left[new]], left = found[new], left[~new]
        table = np.zeros(len(train.items), np.int64)
        table[ranges(train.start, train.stop)] = chosen
        return table

    def _drawn(self, user: Tensor, count: int) -> Tensor:
        """Draw items for users [R], [R, count]."""
        if not count:
            return user.new_zeros(len(user), 0)
        item = self.weight.multinomial(len(user) * count, replacement=True).view(len(user), count)
        key = user[:, None] * (self.num_items + 1) + item
        index = torch.searchsorted(self.own, key).clamp(max=len(self.own) - 1)
        repeat = (item[:, :, None] == item[:, None]).tril(-1).any(-1)
        return item.masked_fill((self.own[index] == key) | repeat, 0)


def largest(scores: scipy.sparse.csr_array, count: int) -> np.ndarray:
    """Return the columns of the `count` largest positive entries of each row of a sparse matrix, largest first.

    [R, count]; 0 where a row has no more of them; ties are broken by the lowest column.
    """
    value = np.maximum(scores.data, 0)
    found = np.zeros((scores.shape[0], count), np.int64)
    entries = np.diff(scores.indptr)
    filled = np.flatnonzero(entries)
    if not len(filled):
        return found
    number = np.repeat(np.arange(len(filled)), entries[filled])  # index of each entry's row among those filled
    for column in range(count):
        best = np.maximum.reduceat(value, scores.indptr[filled])
        at_best = np.flatnonzero((value == best[number]) & (value > 0))
        at_best = at_best[np.lexsort((scores.indices[at_best], number[at_best]))]
        chosen, first = np.unique(number[at_best], return_index=True)
        found[filled[chosen], column] = scores.indices[at_best[first]]
        value[at_best[first]] = 0
    return found
