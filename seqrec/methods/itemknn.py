"""ItemKNN: items of the same users (Sarwar et al., WWW 2001; implicit feedback as in Deshpande and Karypis 2004)."""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.data.similarity import Similarity
from seqrec.data.transitions import history_weights
from seqrec.methods.base import Untrained
from seqrec.utils.errors import within


class ItemKNN(Untrained):
    """Scores an item by its summed cosine similarity to the items of the history.

    Similarity is kept for the `neighbours` nearest of each item; `shrink` is added to the product of the norms and damps pairs
    with few common users. Raises UserError, naming the key, for a value that makes no sense.
    """

    def __init__(self, num_items: int, max_len: int, neighbours: int, shrink: float):
        super().__init__(num_items, max_len)
        within("method.neighbours", neighbours, 1)
        within("method.shrink", shrink, 0)
        self.neighbours, self.shrink = neighbours, shrink

    def setup(self, train: Sequences) -> None:
        """Compute the similarity of all pairs of items with a common user."""
        similarity = Similarity(train, self.num_items, np.ones_like, self._cosine, np.float32)
        item, other, value = similarity.nearest(self.neighbours)
        size = self.num_items + 1
        self.similarity = scipy.sparse.coo_array((value, (other, item)), shape=(size, size)).tocsr()

    def _cosine(self, both: np.ndarray, held: np.ndarray, other: np.ndarray) -> np.ndarray:
        return both / (np.sqrt(held) * np.sqrt(other) + self.shrink)

    def score(self, batch: Batch) -> Tensor:
        """Return summed similarities, [B, V + 1]."""
        seq = batch.seq.cpu().numpy()
        history = history_weights(seq, 1.0, seq.shape[1], self.num_items)
        history.sum_duplicates()
        history.data[:] = 1
        return torch.from_numpy((history @ self.similarity).toarray()).to(batch.seq.device)
