"""CL4SRec: contrastive learning with two random views of a sequence (Xie et al., 2020)."""

from collections.abc import Callable

from torch import Tensor

from seqrec.augment import Views
from seqrec.batch import Batch
from seqrec.losses.contrastive import NTXent
from seqrec.methods.base import Method, ModelSpec
from seqrec.methods.contrastive import next_item_and_contrast
from seqrec.utils.errors import UserError


class CL4SRec(Method):
    """L = L_next + weight * NT-Xent between two views, each made by one of crop, mask and reorder.

    The public versions differ in ratios, vector and next-item loss; the keys choose between them
    (see docs/methods/cl4srec.md). Raises UserError for an operator that needs similar items.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weight: float,
        vector: str,
        cosine: bool,
        temperature: float,
        views: Callable[..., Views],
    ):
        super().__init__(spec)
        self.weight, self.contrast = weight, NTXent(vector, cosine, temperature)
        self.views = views(max_len=spec.max_len)
        if self.views.informed:
            raise UserError("method.views: substitute and insert need similar items; take method=coserec")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and its terms; sequences and views are encoded in one call."""
        return next_item_and_contrast(self, self.contrast, self.weight, batch, *self.views(batch.seq))
