"""Counts of transitions between items in training histories."""

import numpy as np
import scipy.sparse

from seqrec.data.sequences import Sequences


def transition_counts(train: Sequences, num_items: int, window: int, decay: float) -> scipy.sparse.csr_array:
    """Return T [V + 1, V + 1] float32, T[i, j] the sum of decay^(d - 1) over pairs (i, then j) at distance d <= window."""
    row, item = train.pairs()
    size = num_items + 1
    counts = scipy.sparse.csr_array((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        same = row[distance:] == row[:-distance]
        if not same.any():
            break
        pairs = (item[:-distance][same], item[distance:][same])
        weight = np.full(len(pairs[0]), decay ** (distance - 1), np.float32)
        counts += scipy.sparse.coo_array((weight, pairs), shape=(size, size)).tocsr()
    return counts


def history_weights(seq: np.ndarray, decay: float, newest: int, num_items: int) -> scipy.sparse.csr_array:
    """Return rows h [B, V + 1] float32 with decay^age at each of the `newest` items of seq [B, T]; the newest has age 0."""
    newest_first = seq[:, ::-1][:, :newest]
    age = np.arange(newest_first.shape[1], dtype=np.float64)
    weight = np.broadcast_to(np.float64(decay) ** age, newest_first.shape)
    used = (newest_first > 0) & (weight > 0)
    return scipy.sparse.coo_array(
        (weight[used].astype(np.float32), (used.nonzero()[0], newest_first[used])), shape=(len(seq), num_items + 1)
    ).tocsr()
