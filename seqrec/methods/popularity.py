"""Popularity: the same ranking for all users."""

import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.methods.base import Untrained


class Popularity(Untrained):
    """Scores an item by its number of training interactions."""

    def setup(self, train: Sequences) -> None:
        """Count the items of the training sequences."""
        self.register_buffer("count", torch.from_numpy(train.item_counts(self.num_items)).float())

    def score(self, batch: Batch) -> Tensor:
        """Return the counts for every row, [B, V + 1]."""
        return self.count.repeat(len(batch.seq), 1)
