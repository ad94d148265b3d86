"""Negative items, drawn for a whole batch at once."""

import numpy as np

from seqrec.data.sequences import Sequences, powers
from seqrec.utils.errors import UserError

NEGATIVES = 2  # first word of the key of this generator; the order of batches has its own


class NegativeSampler:
    """Draws negatives from a generator keyed by (seed, epoch, batch), so that every method gets the same ones.

    `shared` draws `count` items for the whole batch (distinct ones where the proposal is uniform), otherwise `count`
    per supervised slot, uniform over the items outside the user's training set. `power` is the exponent of
    the training counts in the shared proposal: 0 is uniform.
    """

    def __init__(self, train: Sequences, num_items: int, count: int, shared: bool, power: float, seed: int):
        self.train, self.num_items, self.count, self.shared, self.seed = train, num_items, count, shared, seed
        weight = powers(train.item_counts(num_items)[1:], power, "loss.power")
        probability = weight / weight.sum()
        with np.errstate(divide="ignore"):
            self.log_proposal = np.concatenate([[-np.inf], np.log(probability)])  # [V + 1]
        self.cumulative = None if power == 0 else np.cumsum(probability)
        if not shared:
            self._check_that_every_user_has_a_negative()

    def draw(self, user: np.ndarray, supervised: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """Return negatives [N] (shared) or [B, T, N] with 0 at the slots that are not supervised [B, T]."""
        generator = np.random.default_rng([NEGATIVES, self.seed, epoch, number])
        if self.shared:
            return self._shared(generator)
        negative = np.zeros((*supervised.shape, self.count), np.int64)
        row = np.flatnonzero(supervised) // supervised.shape[1]
        row = np.repeat(row, self.count)
        drawn = generator.integers(1, self.num_items + 1, len(row))
        own_row, own_item = self.train.take(user).pairs()
        width = self.num_items + 1
        own = np.unique(own_row * width + own_item)
        again = np.arange(len(row))
        while len(again):
            key = row[again] * width + drawn[again]
            index = np.searchsorted(own, key)
            again = again[own[np.minimum(index, len(own) - 1)] == key]
            drawn[again] = generator.integers(1, self.num_items + 1, len(again))
        negative[supervised] = drawn.reshape(-1, self.count)
        return negative

    def _shared(self, generator: np.random.Generator) -> np.ndarray:
        if self.cumulative is None:
            return generator.choice(self.num_items, min(self.count, self.num_items), replace=False) + 1
        index = np.searchsorted(self.cumulative, generator.random(self.count), side="right")
        return np.minimum(index, self.num_items - 1) + 1

    def _check_that_every_user_has_a_negative(self) -> None:
        user, item = self.train.pairs()
        distinct = np.unique(user * (self.num_items + 1) + item)
        if len(distinct) and np.bincount(distinct // (self.num_items + 1)).max() >= self.num_items:
            raise UserError(
                "a user has every item of the catalogue in training, so there is no negative item; use loss=cross_entropy"
            )
