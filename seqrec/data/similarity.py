"""Item similarity: counted (ItemCF-IUF), from embeddings, and the hybrid of both, as tables of nearest items."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from seqrec.data.sequences import Sequences


@dataclass(frozen=True)
class Nearest:
    """The most similar other item of every item; entry 0 belongs to padding and is 0."""

    item: Tensor  # [V + 1] int64
    score: Tensor  # [V + 1] float32, similarity after min-max normalisation


def item_cf_iuf(train: Sequences, num_items: int) -> scipy.sparse.csr_array:
    """Return the ItemCF-IUF similarity of all pairs of items as [V + 1, V + 1] float32.

    sim(i, j) = sum over users u with both of 1 / log(1 + |items_u|), over sqrt(N_i N_j), where |items_u| counts the
    distinct items of a row of `train` and N_i the rows that hold item i. The diagonal is empty, and so are row and
    column 0 (the default of CoSeRec's code, Liu et al. 2021).
    """
    row, item = train.pairs()
    size = num_items + 1
    users = scipy.sparse.coo_array((np.ones(len(row)), (row, item)), shape=(len(train), size)).tocsr()
    users.data[:] = 1  # a repeat counts once
    distinct = np.diff(users.indptr)
    weighted = users.copy()
    weighted.data = np.repeat(1 / np.log1p(np.maximum(distinct, 1)), distinct)
    both = (users.T.tocsr() @ weighted).tocoo()
    held = users.sum(0)
    other = both.row != both.col
    first, second = both.row[other], both.col[other]
    # rounded to single precision last, so that pairs with equal counts stay equal
    value = (both.data[other] / np.sqrt(held[first] * held[second])).astype(np.float32)
    similarity = scipy.sparse.coo_array((value, (first, second)), shape=(size, size)).tocsr()
    similarity.sort_indices()
    return similarity


def top1(similarity: scipy.sparse.csr_array) -> Nearest:
    """Return the nearest item of each row of a similarity [V + 1, V + 1] with an empty diagonal.

    The lowest id wins a tie. Scores are normalised by the least and the largest stored value. An item without any
    similar one gets another item at random, with score 0; it is drawn from torch's global generator.
    """
    size = similarity.shape[0]
    item = torch.randint(1, size - 1, (size,))  # one of the V - 1 others: the item itself is stepped over
    item += item >= torch.arange(size)
    item[0] = 0
    score = torch.zeros(size)
    count = np.diff(similarity.indptr)
    known = np.flatnonzero(count)
    if len(known):
        best = np.maximum.reduceat(similarity.data, similarity.indptr[known])
        at_best = np.flatnonzero(similarity.data == np.repeat(best, count[known]))
        _, first = np.unique(np.repeat(known, count[known])[at_best], return_index=True)
        item[known] = torch.from_numpy(similarity.indices[at_best[first]].astype(np.int64))
        score[known] = _normalise(torch.from_numpy(best), similarity.data.min(), similarity.data.max())
    return Nearest(item, score)


@torch.no_grad()
def embedding_top1(table: Tensor, chunk: int = 512) -> Nearest:
    """Return the nearest item of each item by the dot product of embeddings [V + 1, D]; the lowest id wins a tie.

    Scores are normalised by the least and the largest product over all pairs of items, an item with itself included.
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
    """Return, per item, the nearest item of whichever table has the larger score, [V + 1]; `counted` wins a tie."""
    return torch.where(counted.score >= embedded.score, counted.item, embedded.item)


def _normalise(value: Tensor, least, largest) -> Tensor:
    return (value - least) / max(float(largest - least), 1e-12)
