"""Batches for training and evaluation: shift, pad and negatives, all on whole arrays."""

from collections.abc import Iterator

import numpy as np
import torch

from seqrec.batch import Batch
from seqrec.data.negatives import NegativeSampler
from seqrec.data.sequences import Sequences, ranges, right_aligned
from seqrec.data.split import EvalSplit

ORDER = 1  # first word of the key of the generator that shuffles; see negatives.py for its neighbour


class TrainLoader:
    """Training batches; the order depends on the seed and the epoch alone, so every method gets the same batches.

    With `prefixes` every target becomes a row of its own, supervised at its last slot only (backbones that are not
    causal need it); without, a user is one row and every slot is supervised. Either way the last `max_len` targets
    of a user are trained on.
    """

    def __init__(
        self,
        train: Sequences,
        batch_size: int,
        max_len: int,
        seed: int,
        negatives: NegativeSampler | None = None,
        prefixes: bool = False,
    ):
        self.items, self.batch_size, self.seed = train.items, batch_size, seed
        self.negatives, self.prefixes = negatives, prefixes
        user = np.flatnonzero(train.lengths >= 2)
        start, stop = train.start[user], train.stop[user]
        if prefixes:
            first_target = np.maximum(start + 1, stop - max_len)
            self.user = np.repeat(user, stop - first_target)
            self.stop = ranges(first_target, stop)
            self.start = np.maximum(np.repeat(start, stop - first_target), self.stop - max_len)
        else:
            self.user, self.stop = user, stop - 1
            self.start = np.maximum(start, self.stop - max_len)
        self.targets = len(self.user) if prefixes else int((self.stop - self.start).sum())

    def __len__(self) -> int:
        return -(-len(self.user) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch number `first` on."""
        order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(len(self.user))
        for number in range(first, len(self)):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield self._batch(rows, epoch, number)

    def _batch(self, rows: np.ndarray, epoch: int, number: int) -> Batch:
        user = self.user[rows]
        index = right_aligned(self.start[rows], self.stop[rows])
        real = index >= 0
        seq = np.where(real, self.items[index], 0)
        supervised = real if not self.prefixes else real & (np.arange(real.shape[1]) == real.shape[1] - 1)
        target = np.where(supervised, self.items[index + 1], 0)
        negative = None
        if self.negatives is not None:
            negative = torch.from_numpy(self.negatives.draw(user, supervised, epoch, number))
        return Batch(
            user=torch.from_numpy(user),
            seq=torch.from_numpy(seq.astype(np.int64)),
            target=torch.from_numpy(target.astype(np.int64)),
            index=torch.from_numpy(index),
            negative=negative,
        )


class EvalLoader:
    """Evaluation batches, in order of length so that a batch has little padding; `rows` are its rows of the split."""

    def __init__(self, split: EvalSplit, batch_size: int, max_len: int):
        self.split, self.batch_size = split, batch_size
        inputs = split.inputs
        self.start = np.maximum(inputs.start, inputs.stop - max_len)
        self.order = np.argsort(inputs.stop - self.start, kind="stable")

    def __iter__(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield (rows, batch); the target of a row is in its last slot."""
        split = self.split
        for first in range(0, len(self.order), self.batch_size):
            rows = self.order[first : first + self.batch_size]
            index = right_aligned(self.start[rows], split.inputs.stop[rows])
            seq = np.where(index >= 0, split.inputs.items[index], 0).astype(np.int64)
            target = np.zeros_like(seq)
            target[:, -1] = split.target[rows]
            row, item = split.history.take(rows).pairs()
            yield (
                rows,
                Batch(
                    user=torch.from_numpy(split.user[rows]),
                    seq=torch.from_numpy(seq),
                    target=torch.from_numpy(target),
                    index=torch.from_numpy(index),
                    seen=(torch.from_numpy(row), torch.from_numpy(item.astype(np.int64))),
                ),
            )
