"""Noise in the training histories, which are also the inputs of the evaluation by default."""

import hashlib
from dataclasses import replace

import numpy as np

from seqrec.data.dataset import Dataset
from seqrec.data.sequences import Sequences, ranges
from seqrec.data.split import EvalSplit, Split
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.plan import Corrupted, corrupt
from seqrec.noise.registry import NoiseSettings
from seqrec.utils.errors import one_of, within
from seqrec.utils.keyed_random import uniform, user_keys

USERS = 101  # second word, after the seed, of the key that chooses the users; operators have their numbers there


class TrainingNoise:
    """Corrupts the training histories of a fraction `users` of the users (operators and rules: docs/noise.md).

    Targets, masked items and candidates stay clean. With `eval_history=noisy` the inputs of validation and test begin with
    the corrupted history, which is what the system has observed; with `clean` they do not change. Raises UserError for
    an invalid value.
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
        one_of("noise.eval_history", eval_history, ("noisy", "clean"))
        within("noise.users", users, 0, 1)
        self.settings = NoiseSettings(operators, ratio, where, last, window)
        self.source, self.power, self.seed, self.users, self.eval_history = source, power, seed, users, eval_history

    def __call__(self, dataset: Dataset, split: Split) -> tuple[Split, dict]:
        """Return the split with noise, and a record: nominal and realised counts and the hash of the noisy training set."""
        keys = user_keys(dataset.user_ids)
        chosen = np.flatnonzero((uniform(self.seed, USERS, keys) < self.users) & (split.train.lengths > 0))
        foreign = ForeignItems(split.train, keys, dataset.num_items, self.source, self.power)
        rows = split.train.take(chosen)
        corrupted = corrupt(rows, keys[chosen], self.settings, self.seed, foreign, labels=split.noise)
        train, noise = put_back(split, chosen, corrupted)
        hit = sum(corrupted.counts.values())
        record = {
            "users": len(chosen),
            "nominal": round(float(self.settings.ratio * rows.lengths.sum()), 1),
            "realised": corrupted.counts,
            "interactions": int(train.lengths.sum()),
            "noise_share": round(float(noise[ranges(train.start, train.stop)].mean()), 6),
            "noise_sha256": sha256(train),
        }
        if not hit:
            return split, record
        valid, test = split.valid, split.test
        if self.eval_history == "noisy":
            valid, test = (observed(part, split.train, train) for part in (valid, test))
        return Split(train, valid, test, noise), record


def put_back(split: Split, chosen: np.ndarray, corrupted: Corrupted) -> tuple[Sequences, np.ndarray]:
    """Write every user's training history, noisy for the `chosen` users, followed by the later items, into one flat array.

    Returns the training histories and the labels of the flat array's items.
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
        old, new = ranges(begin, end), ranges(into, into + end - begin)
        items[new], noise[new] = train.items[old], labels[old]

    copy(start[~noisy], train.start[~noisy], train.stop[~noisy])
    copy(start + length, train.stop, train.stop + tail)
    new = ranges(start[chosen], (start + length)[chosen])
    items[new], noise[new] = corrupted.rows.items, corrupted.noise
    return Sequences(items, start, start + length), noise


def observed(part: EvalSplit, clean: Sequences, noisy: Sequences) -> EvalSplit:
    """Return validation or test with inputs that begin with the noisy training history; later items stay clean."""
    user = part.user
    later = part.inputs.stop - clean.stop[user]
    return replace(part, inputs=Sequences(noisy.items, noisy.start[user], noisy.stop[user] + later))


def sha256(train: Sequences) -> str:
    """Return the hash of the training histories: lengths and items of all users."""
    items = train.items[ranges(train.start, train.stop)].astype(np.int32)
    return hashlib.sha256(train.lengths.astype(np.int64).tobytes() + items.tobytes()).hexdigest()
