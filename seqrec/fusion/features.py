"""Count features of a batch: sparse in the catalogue, a function of the input sequences alone."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import _sparsetools, csr_array
from torch import Tensor

from seqrec.data.sequences import Sequences
from seqrec.data.transitions import history_weights
from seqrec.fusion.matrices import MATRICES, Counts
from seqrec.utils.errors import UserError, nearest, one_of, within

POPULARITY = "popularity"


@dataclass(frozen=True)
class CountFeature:
    """log(1 + (h M) / constant): h the `newest` items of the history weighted by decay^age, M a matrix of counts."""

    matrix: str
    decay: float
    newest: int
    constant: float


@dataclass(frozen=True)
class SparseFeatures:
    """F features of B rows at the N cells where any of them is not 0, in order of row and item."""

    cell: Tensor  # [N] row * (V + 1) + item
    value: Tensor  # [N, F]


class FeatureSet:
    """The count features of a configuration, on the statistics of a training set.

    `names` chooses from `library`, which gives each feature's matrix, decay, newest and constant; "popularity" is
    log(1 + training count) and needs no entry. Each row of a matrix is cut to its `neighbours` largest entries, so that
    memory is at most V x neighbours x 8 bytes a matrix. Raises UserError on a name or value that makes no sense.
    """

    def __init__(self, names: list[str], library: dict[str, dict], window: int, decay: float, neighbours: int):
        within("fusion.window", window, 1)
        within("fusion.decay", decay, 0, 1)
        within("fusion.neighbours", neighbours, 1)
        if not isinstance(library, dict):
            raise UserError(f"fusion.library={library}: must be a group of features, as in conf/fusion/counts.yaml")
        for name in names:
            if name != POPULARITY and name not in library:
                known = [*library, POPULARITY]
                raise UserError(
                    f"fusion.features: no feature '{name}'; there are {', '.join(known)}{nearest(name, known)}"
                )
        if len(set(names)) < len(names):
            raise UserError(f"fusion.features={list(names)}: a feature is listed twice")
        self.counted = {}
        for name in names:
            if name == POPULARITY:
                continue
            key, entry = f"fusion.library.{name}", library[name]
            if not isinstance(entry, dict) or entry.keys() != CountFeature.__annotations__.keys():
                raise UserError(f"{key}={entry}: must have {', '.join(CountFeature.__annotations__)}, and nothing else")
            feature = self.counted[name] = CountFeature(**entry)
            one_of(f"{key}.matrix", feature.matrix, tuple(MATRICES))
            within(f"{key}.decay", feature.decay, 0, 1)
            within(f"{key}.newest", feature.newest, 1)
            if not isinstance(feature.constant, int | float) or feature.constant <= 0:
                raise UserError(f"{key}.constant={feature.constant}: must be a number above 0")
        self.names = [*self.counted, *([POPULARITY] if POPULARITY in names else [])]
        self.window, self.decay, self.neighbours = window, decay, neighbours

    def setup(self, train: Sequences, num_items: int) -> None:
        """Count the training set."""
        counts = Counts(train, num_items, self.window, self.decay, self.neighbours)
        self.num_items = num_items
        self.matrices = {name: counts.matrix(name) for name in {f.matrix for f in self.counted.values()}}
        popularity = np.log1p(train.item_counts(num_items)).astype(np.float32)
        wanted = [popularity] if POPULARITY in self.names else []
        self.of_items = torch.from_numpy(np.array(wanted, np.float32).reshape(len(wanted), num_items + 1))  # [P, V + 1]

    def each(self, items: np.ndarray) -> list[csr_array]:
        """Return the count features of histories `items` [B, T], each [B, V + 1] in sparse rows."""
        found, histories = [], {}
        for feature in self.counted.values():
            key = (feature.decay, feature.newest)
            if key not in histories:
                histories[key] = history_weights(items, *key, self.num_items)
            scaled = histories[key] * np.float32(1 / feature.constant)  # far fewer values than the product has
            found.append(product := multiply(scaled, self.matrices[feature.matrix]))
            np.log1p(product.data, out=product.data)  # in place: fresh memory costs more than the logarithm
        return found

    def aligned(self, seq: Tensor) -> SparseFeatures:
        """Return all count features of seq [B, T] at the same cells."""
        size = len(seq) * (self.num_items + 1)
        found, anywhere = [], torch.zeros(size, dtype=torch.bool)
        for feature in self.each(seq.numpy()):
            row = np.repeat(np.arange(len(seq)), np.diff(feature.indptr))
            cell = torch.from_numpy(row * (self.num_items + 1) + feature.indices)
            found.append((cell, torch.from_numpy(feature.data)))
            anywhere[cell] = True
        cells = anywhere.nonzero()[:, 0]
        position = torch.empty(size, dtype=torch.int32)
        position[cells] = torch.arange(len(cells), dtype=torch.int32)
        value = torch.zeros(len(cells), len(found))
        for column, (cell, values) in enumerate(found):
            value[position[cell].long(), column] = values
        return SparseFeatures(cells, value)


def multiply(left: csr_array, right: csr_array) -> csr_array:
    """Return left @ right of float32 and int32 parts, each row in no order.

    Scipy's own product passes over all pairs of entries once before, to count the cells of the result. Here there is
    room for as many cells as pairs, a third more than are used on Beauty.
    """
    rows, columns = len(left.indptr) - 1, right.shape[1]
    room = min(int(np.diff(right.indptr)[left.indices].sum()), rows * columns)
    starts, indices, data = np.empty(rows + 1, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
    parts = (left.indptr, left.indices, left.data, right.indptr, right.indices, right.data)
    _sparsetools.csr_matmat(rows, columns, *parts, starts, indices, data)
    return csr_array((data[: starts[-1]], indices[: starts[-1]], starts), shape=(rows, columns))
