"""CoSeRec: contrastive learning with two views made with similar items (Liu et al., 2021)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from seqrec.augment import Views
from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.data.similarity import Nearest, embedding_top1, hybrid, item_cf_iuf, top1
from seqrec.losses.contrastive import NTXent
from seqrec.methods.base import Method, ModelSpec
from seqrec.methods.contrastive import next_item_and_contrast


class CoSeRec(Method):
    """L = L_next + weight * NT-Xent between two views; substitution and insertion use the most similar item.

    Similarity is counted (ItemCF-IUF on the training inputs); from epoch `hybrid_from` on each item uses the nearer of
    its nearest items by counts and by embeddings, recomputed every epoch.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weight: float,
        vector: str,
        cosine: bool,
        temperature: float,
        views: Callable[..., Views],
        hybrid_from: int,
    ):
        super().__init__(spec)
        self.weight, self.contrast = weight, NTXent(vector, cosine, temperature)
        self.views = views(max_len=spec.max_len)
        self.hybrid_from = hybrid_from
        self.register_buffer("similar", torch.zeros(spec.num_items + 1, dtype=torch.long))
        self.register_buffer("counted_item", torch.zeros(spec.num_items + 1, dtype=torch.long))
        self.register_buffer("counted_score", torch.zeros(spec.num_items + 1))

    def setup(self, train: Sequences) -> None:
        """Compute similarity on the training inputs: every item of a row but its last."""
        inputs = Sequences(train.items, train.start, np.maximum(train.stop - 1, train.start))
        counted = top1(item_cf_iuf(inputs, len(self.similar) - 1))
        self.similar.copy_(counted.item)
        self.counted_item.copy_(counted.item)
        self.counted_score.copy_(counted.score)

    def on_epoch(self, epoch: int) -> None:
        """Refresh the nearest items with the current embeddings."""
        if epoch >= self.hybrid_from:
            counted = Nearest(self.counted_item, self.counted_score)
            self.similar.copy_(hybrid(counted, embedding_top1(self.items.weight)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and its terms; sequences and views are encoded in one call."""
        return next_item_and_contrast(self, self.contrast, self.weight, batch, *self.views(batch.seq, self.similar))
