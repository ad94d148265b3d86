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
    """Return rows h [B, V + 1] float32 with decay^age at each of the `newest` items of seq [B, T]; the newest has age 0.

    An item that comes twice has two entries: products add them up.
    """
    newest_first = seq[:, ::-1][:, :newest]
    weight = np.float64(decay) ** np.arange(newest_first.shape[1])
    used = (newest_first > 0) & (weight > 0)
    starts = np.concatenate([[0], used.sum(1).cumsum()]).astype(np.int32)
    data = np.broadcast_to(weight.astype(np.float32), used.shape)[used]
    return scipy.sparse.csr_array((data, newest_first[used].astype(np.int32), starts), shape=(len(seq), num_items + 1))
