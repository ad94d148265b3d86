"""Item-item statistics of the training set, each [V + 1, V + 1] in sparse rows. A new one is one entry here."""

from collections.abc import Callable

import numpy as np
import scipy.sparse

from seqrec.data.sequences import Sequences
from seqrec.data.similarity import item_cf_iuf, largest_entries
from seqrec.data.transitions import transition_counts

Matrix = scipy.sparse.csr_array
MATRICES: dict[str, Callable[["Counts"], Matrix]] = {}
SMOOTHING = 5.0  # added to the row sums of `conditional`


class Counts:
    """Transition counts T of the training set (as `method=markov` has them), and what is derived from them.

    Of each row of a matrix only the `neighbours` largest entries are wanted.
    """

    def __init__(self, train: Sequences, num_items: int, window: int, decay: float, neighbours: int):
        self.train, self.num_items, self.neighbours = train, num_items, neighbours
        self.transitions = transition_counts(train, num_items, window, decay)

    def matrix(self, name: str) -> Matrix:
        """Return a registered matrix, each row cut to its largest entries."""
        return strongest(MATRICES[name](self).astype(np.float32), self.neighbours)


def entry(function: Callable[[Counts], Matrix]) -> Callable[[Counts], Matrix]:
    """Register a matrix under the name of its function."""
    MATRICES[function.__name__] = function
    return function


@entry
def transitions(counts: Counts) -> Matrix:
    """T."""
    return counts.transitions


@entry
def both_ways(counts: Counts) -> Matrix:
    """T + T', pairs in either order."""
    return counts.transitions + counts.transitions.T.tocsr()


@entry
def normalised(counts: Counts) -> Matrix:
    """R^-1/2 T C^-1/2 with the row sums R and column sums C of T."""
    return normalise(counts.transitions)


@entry
def normalised_both_ways(counts: Counts) -> Matrix:
    """The same of T + T'."""
    return normalise(both_ways(counts))


@entry
def adjacent(counts: Counts) -> Matrix:
    """Counts of immediate successors alone."""
    return transition_counts(counts.train, counts.num_items, 1, 1.0)


@entry
def conditional(counts: Counts) -> Matrix:
    """T divided by its row sums plus a constant: smoothed conditional probabilities of the successor."""
    return counts.transitions.multiply(1 / (counts.transitions.sum(1) + SMOOTHING)[:, None]).tocsr()


@entry
def same_users(counts: Counts) -> Matrix:
    """Cosine of the sets of users who had both items, weighted by 1 / log(1 + items of the user) (ItemCF-IUF)."""
    item, other, value = item_cf_iuf(counts.train, counts.num_items).nearest(counts.neighbours)
    return scipy.sparse.coo_array((value, (item, other)), shape=counts.transitions.shape).tocsr()


def normalise(matrix: Matrix) -> Matrix:
    """Return R^-1/2 M C^-1/2 with the row sums R and column sums C of M."""
    sums = matrix.sum(1), matrix.sum(0)
    rows, columns = (np.divide(1, np.sqrt(part), where=part > 0, out=np.zeros(len(part))) for part in sums)
    return matrix.multiply(rows[:, None]).multiply(columns).tocsr()


def strongest(matrix: Matrix, count: int) -> Matrix:
    """Return the matrix with the `count` largest entries of each row, the lower column first among equals; 8 bytes an entry."""
    matrix.sort_indices()
    kept = largest_entries(matrix, count)
    index = (part.astype(np.int32) for part in (matrix.indices[kept], np.searchsorted(kept, matrix.indptr)))
    return scipy.sparse.csr_array((matrix.data[kept], *index), shape=matrix.shape)
