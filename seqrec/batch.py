"""The batch, the only interface between data and methods or evaluation."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of item ids, left-padded to the longest row of this batch; the newest item is last, item 0 is padding."""

    user: Tensor  # [B]
    seq: Tensor  # [B, T]
    target: Tensor  # [B, T] next item per slot, 0 = not supervised
    index: Tensor  # [B, T] offset of each slot into the data's flat arrays, -1 = padding
    negative: Tensor | None = None  # [B, T, N], or [N] shared by the batch
    seen: tuple[Tensor, Tensor] | None = None  # (row, item) pairs to leave out of the ranking

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with all tensors on `device`; copies to a GPU go on while the next batch is assembled."""

        def move(value):
            if value is None:
                return None
            if isinstance(value, tuple):
                return tuple(map(move, value))
            if device.type == "cuda" and value.device.type == "cpu":
                value = value.pin_memory()  # only copies from there do not wait
            return value.to(device, non_blocking=True)

        return Batch(**{field.name: move(getattr(self, field.name)) for field in fields(self)})

    def negatives_at(self, slots: Tensor) -> Tensor | None:
        """Return the negatives of the chosen slots [B, T]: [n, N], or [N] where the whole batch shares them; None without any."""
        own = self.negative is not None and self.negative.dim() == 3
        return self.negative[slots] if own else self.negative

    def shard(self, rank: int, world_size: int) -> "Batch":
        """Return every `world_size`-th row from `rank` on in order of length, so that all processes have as much to do.

        A batch with fewer rows than processes stays whole.
        """
        if len(self.user) < world_size:
            return self
        rows = (self.seq > 0).sum(1).argsort(stable=True)[rank::world_size]
        negative = self.negative
        if negative is not None and negative.dim() == 3:
            negative = negative[rows]
        return Batch(self.user[rows], self.seq[rows], self.target[rows], self.index[rows], negative)
