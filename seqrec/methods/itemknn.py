"""ItemKNN: items that the same users had (Sarwar et al., WWW 2001; implicit feedback as in Deshpande and Karypis 2004)."""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.methods.base import Untrained


class ItemKNN(Untrained):
    """Scores an item by its summed cosine similarity to the items of the history.

    Similarity is cut to the `neighbours` nearest of each item; `shrink` is added to the norms' product and damps pairs
    that few users share.
    """

    def __init__(self, num_items: int, max_len: int, neighbours: int, shrink: float):
        super().__init__(num_items, max_len)
        self.neighbours, self.shrink = neighbours, shrink

    def setup(self, train: Sequences) -> None:
        """Compute the similarity of all pairs of items that share a user."""
        row, item = train.pairs()
        size = self.num_items + 1
        users = scipy.sparse.coo_array((np.ones(len(row), np.float32), (row, item)), shape=(len(train), size)).tocsr()
        users.data[:] = 1  # a repeat counts once
        both = (users.T @ users).tocoo()
        norm = np.sqrt(users.sum(0))
        value = np.where(both.row == both.col, 0, both.data / (norm[both.row] * norm[both.col] + self.shrink))
        nearest = np.lexsort((-value, both.row))
        place = np.arange(len(nearest)) - np.searchsorted(both.row[nearest], both.row[nearest])
        kept = nearest[(place < self.neighbours) & (value[nearest] > 0)]
        self.similarity = scipy.sparse.coo_array(
            (value[kept].astype(np.float32), (both.col[kept], both.row[kept])), shape=(size, size)
        ).tocsr()

    def score(self, batch: Batch) -> Tensor:
        """Return summed similarities, [B, V + 1]."""
        row, slot = batch.seq.nonzero(as_tuple=True)
        history = scipy.sparse.coo_array(
            (np.ones(len(row), np.float32), (row.numpy(), batch.seq[row, slot].numpy())),
            shape=(len(batch.seq), self.num_items + 1),
        ).tocsr()
        history.data[:] = 1
        return torch.from_numpy((history @ self.similarity).toarray())
