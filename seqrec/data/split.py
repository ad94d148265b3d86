"""Splits of a data set into training sequences, a validation set and a test set."""

from dataclasses import dataclass, replace

import numpy as np

from seqrec.data.dataset import Dataset
from seqrec.data.sequences import Sequences
from seqrec.utils.errors import UserError
from seqrec.utils.keyed_random import uniform, user_keys

VALID_USERS = 401  # word of the key that draws the users of eval.valid_users


@dataclass(frozen=True)
class EvalSplit:
    """Validation or test set: the item after `inputs`, a row per user."""

    user: np.ndarray  # [R]
    target: np.ndarray  # [R]
    inputs: Sequences  # visible to the model
    history: Sequences  # all true interactions before the target; they are excluded from the ranking

    def take(self, rows: np.ndarray) -> "EvalSplit":
        """Return the given rows."""
        return EvalSplit(self.user[rows], self.target[rows], self.inputs.take(rows), self.history.take(rows))

    def same(self, other: "EvalSplit") -> bool:
        """Whether both have the same users, targets, inputs and histories."""
        ids = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("user", "target"))
        return ids and self.inputs.same(other.inputs) and self.history.same(other.history)

    def target_in_history(self) -> np.ndarray:
        """Return whether each target is an item that the user already had, [R] bool."""
        row, item = self.history.pairs()
        found = np.zeros(len(self.user), bool)
        found[row[item == self.target[row]]] = True
        return found


@dataclass(frozen=True)
class Split:
    """Training sequences (row u is user u, possibly empty), validation and test set."""

    train: Sequences
    valid: EvalSplit
    test: EvalSplit
    noise: np.ndarray | None = None  # [len(train.items)] bool, True where an interaction is known to be noise

    def same(self, other: "Split") -> bool:
        """Whether both have the same sequences and targets."""
        return all(getattr(self, name).same(getattr(other, name)) for name in ("train", "valid", "test"))

    def with_valid_users(self, count: int | None, user_ids: np.ndarray) -> "Split":
        """Return the split with `count` users of the validation set, drawn by their own ids [U]; all if None or fewer are there."""
        if count is None or count >= len(self.valid.user):
            return self
        drawn = uniform(VALID_USERS, user_keys(user_ids[self.valid.user]))
        chosen = np.sort(np.argsort(drawn, kind="stable")[:count])
        return replace(self, valid=self.valid.take(chosen))


def _split(dataset: Dataset, train: np.ndarray, valid: np.ndarray, test: np.ndarray) -> Split:
    """Split every user's sequence after `train` items; `valid` and `test` are positions of the targets, -1 = none."""
    start = dataset.offsets[:-1]

    def targets_at(position: np.ndarray, name: str) -> EvalSplit:
        user = np.flatnonzero(position > 0)
        if not len(user):
            raise UserError(f"no user of '{dataset.name}' has a {name} target: sequences are too short for this split")
        before = Sequences(dataset.items, start[user], start[user] + position[user])
        return EvalSplit(user, dataset.items[before.stop].astype(np.int64), before, before)

    return Split(
        Sequences(dataset.items, start, start + train),
        targets_at(valid, "validation"),
        targets_at(test, "test"),
        dataset.noise,
    )


class LeaveOneOut:
    """The last item of a user is the test target, the one before it the validation target, the rest is the training set.

    Users with fewer than 3 interactions are in the training set only.
    """

    def __call__(self, dataset: Dataset) -> Split:
        """Split `dataset`; raises UserError if no user is long enough."""
        length = np.diff(dataset.offsets)
        long_enough = length >= 3
        return _split(
            dataset,
            train=np.where(long_enough, length - 2, length),
            valid=np.where(long_enough, length - 2, -1),
            test=np.where(long_enough, length - 1, -1),
        )


class Temporal:
    """Global split in time: interactions after the `quantile` of all times are test, the last (1 - quantile) before it validation.

    A user's first interaction in a period is its target, with everything before it as input; users without any
    earlier interaction are not evaluated.
    """

    def __init__(self, quantile: float):
        self.quantile = quantile

    def __call__(self, dataset: Dataset) -> Split:
        """Split `dataset`; raises UserError if it has no times or a set is empty."""
        if dataset.times is None:
            raise UserError(f"split=temporal needs times, and '{dataset.name}' has none; use split=leave_one_out")
        test_time = np.quantile(dataset.times, self.quantile)
        valid_time = np.quantile(dataset.times[dataset.times <= test_time], self.quantile)
        length = np.diff(dataset.offsets)
        trained = _count(dataset, dataset.times <= valid_time)
        before_test = _count(dataset, dataset.times <= test_time)
        return _split(
            dataset,
            train=trained,
            valid=np.where(trained < before_test, trained, -1),
            test=np.where(before_test < length, before_test, -1),
        )


def _count(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
    """Number of chosen interactions per user, [U]."""
    total = np.concatenate([[0], np.cumsum(chosen)])
    return total[dataset.offsets[1:]] - total[dataset.offsets[:-1]]
