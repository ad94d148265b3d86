"""Noise in the training part of a split: the histories that models are trained on, and by default asked with."""

import hashlib
from dataclasses import replace

import numpy as np

from seqrec.data.dataset import Dataset
from seqrec.data.sequences import Sequences, ranges
from seqrec.data.split import EvalSplit, Split
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.operators import check, corrupt
from seqrec.utils.errors import UserError
from seqrec.utils.keyed_random import uniform, user_keys

USERS = 101  # second word, after the seed, of the key that chooses the users; operators have numbers below it


class TrainingNoise:
    """Corrupts the training histories of a share `users` of the users (operators and rules: docs/noise.md).

    Targets, masked items and candidates stay clean. With `eval_history=noisy` the inputs of validation and test begin with
    the corrupted history, which is what the system has observed; with `clean` they stay as they are. Raises UserError for
    a value that makes no sense.
    """

    def __init__(
        self,
        operators: list[str],
        ratio: float,
        where: str,
        last: int,
        source: str,
        power: float,
        window: int | None,
        seed: int,
        users: float,
        eval_history: str,
    ):
        if eval_history not in ("noisy", "clean"):
            raise UserError(f"noise.eval_history={eval_history}: must be noisy or clean")
        if not isinstance(users, int | float) or not 0 <= users <= 1:
            raise UserError(f"noise.users={users}: must be a share from 0 to 1")
        check(operators, ratio, where, last, window)
        self.operators, self.ratio, self.where, self.last, self.window = operators, ratio, where, last, window
        self.source, self.power, self.seed, self.users, self.eval_history = source, power, seed, users, eval_history

    def __call__(self, dataset: Dataset, split: Split) -> tuple[Split, dict]:
        """Return the split with noise, and what was done: nominal and realised counts and the hash of the noisy training part."""
        keys = user_keys(dataset.user_ids)
        chosen = np.flatnonzero((uniform(self.seed, USERS, keys) < self.users) & (split.train.lengths > 0))
        foreign = ForeignItems(split.train, keys, dataset.num_items, self.source, self.power)
        rows = split.train.take(chosen)
        options = {"where": self.where, "last": self.last, "window": self.window, "labels": split.noise}
        corrupted = corrupt(rows, keys[chosen], self.operators, self.ratio, self.seed, foreign, **options)
        train, noise = joined(split, chosen, corrupted)
        hit = sum(corrupted.counts.values())
        record = {
            "users": len(chosen),
            "nominal": round(float(self.ratio * rows.lengths.sum()), 1),
            "realised": corrupted.counts,
            "interactions": int(train.lengths.sum()),
            "noise_share": round(float(noise[ranges(train.start, train.stop)].mean()), 6),
            "noise_sha256": sha256(train),
        }
        if not hit:
            return split, record
        valid, test = split.valid, split.test
        if self.eval_history == "noisy":
            valid, test = (asked(part, split.train, train) for part in (valid, test))
        return Split(train, valid, test, noise), record


def joined(split: Split, chosen: np.ndarray, corrupted) -> tuple[Sequences, np.ndarray]:
    """Write every user's training part, noisy where chosen, and behind it what comes later into one flat array.

    Returns the training part and the labels of the flat array's items.
    """
    train, users = split.train, len(split.train)
    tail = np.append(train.start[1:], len(train.items)) - train.stop
    noisy = np.zeros(users, bool)
    noisy[chosen] = True
    length = train.lengths.copy()
    length[chosen] = corrupted.rows.lengths
    start = np.concatenate([[0], np.cumsum(length + tail)[:-1]])
    items, noise = np.zeros(int((length + tail).sum()), np.int32), np.zeros(int((length + tail).sum()), bool)
    labels = np.zeros(len(train.items), bool) if split.noise is None else split.noise

    def copy(into: np.ndarray, begin: np.ndarray, end: np.ndarray) -> None:
        source, place = ranges(begin, end), ranges(into, into + end - begin)
        items[place], noise[place] = train.items[source], labels[source]

    copy(start[~noisy], train.start[~noisy], train.stop[~noisy])
    copy(start + length, train.stop, train.stop + tail)
    place = ranges(start[chosen], (start + length)[chosen])
    items[place], noise[place] = corrupted.rows.items, corrupted.noise
    return Sequences(items, start, start + length), noise


def asked(questions: EvalSplit, clean: Sequences, noisy: Sequences) -> EvalSplit:
    """Return the questions with inputs that begin with the noisy training part; what was observed later stays clean."""
    user = questions.user
    later = questions.inputs.stop - clean.stop[user]
    return replace(questions, inputs=Sequences(noisy.items, noisy.start[user], noisy.stop[user] + later))


def sha256(train: Sequences) -> str:
    """Return the hash of the training part: lengths and items of all users."""
    items = train.items[ranges(train.start, train.stop)].astype(np.int32)
    return hashlib.sha256(train.lengths.astype(np.int64).tobytes() + items.tobytes()).hexdigest()
