"""Counts alone: the untrained baseline of fusion."""

import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.methods.base import Untrained


class Counts(Untrained):
    """No model: `fusion=counts`, which conf/method/counts.yaml chooses, fits the count features alone (docs/fusion.md)."""

    def setup(self, train: Sequences) -> None:
        """Nothing to count: fusion does."""

    def score(self, batch: Batch) -> Tensor:
        """Return 0 for every item, [B, V + 1]."""
        return torch.zeros(len(batch.seq), self.num_items + 1, device=batch.seq.device)
