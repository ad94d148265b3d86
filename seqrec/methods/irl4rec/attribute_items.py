"""Item embeddings made of the embeddings of the items' attributes."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.utils.errors import UserError, nearest


class AttributeItems(nn.Module):
    """Used like an item table: an item's embedding is the mean of those of its attribute values, 0 if it has none.

    `attributes` has a table [V + 1, A] of values for each kind, of which `kinds` are used, None: all. Equal numbers of
    two kinds are different values. Raises UserError if there are no attributes, or no such kind.
    """

    def __init__(self, attributes: Mapping[str, np.ndarray], kinds: list[str] | None, dim: int):
        super().__init__()
        if not attributes:
            raise UserError(
                "method.confounder=attributes: the data have none; name a file with dataset.attributes, as in "
                "conf/dataset/beauty.yaml,\nor columns of a table with dataset.attribute_columns"
            )
        kinds = list(attributes) if kinds is None else [kinds] if isinstance(kinds, str) else kinds
        if not kinds:
            raise UserError("method.attributes=[]: name some, or null for all")
        for kind in kinds:
            if kind not in attributes:
                known = ", ".join(attributes)
                raise UserError(
                    f"method.attributes={kind}: no such attribute{nearest(kind, attributes)}; there are {known}"
                )
        tables = [torch.from_numpy(attributes[kind]).long() for kind in kinds]
        total, shifted = 0, []
        for table in tables:
            shifted.append((table + total).where(table > 0, 0))
            total += int(table.max())
        self.register_buffer("values", torch.cat(shifted, 1), persistent=False)  # [V + 1, A] from 1; 0 = none
        self.attribute = nn.Embedding(total + 1, dim, padding_idx=0)
        nn.init.normal_(self.attribute.weight, std=0.02)
        with torch.no_grad():
            self.attribute.weight[0] = 0

    @property
    def weight(self) -> Tensor:
        """The embeddings of all items, [V + 1, D]."""
        return self.mean_of(self.values)

    def forward(self, items: Tensor) -> Tensor:
        """Return the embeddings [..., D] of item ids [...]."""
        return self.mean_of(self.values[items.flatten()]).view(*items.shape, -1)

    def mean_of(self, values: Tensor) -> Tensor:
        """Return the mean embedding [N, D] of rows of values [N, A]."""
        return F.embedding_bag(values, self.attribute.weight, mode="mean", padding_idx=0)
