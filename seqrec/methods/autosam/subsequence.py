"""Sub-sequences of a padded batch, with the original slots of their items."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SubSequence:
    """The kept items of a batch, right-aligned."""

    seq: Tensor  # [B, W]
    positions: Tensor  # [B, W] the original ones
    slot: Tensor  # [B, W] original slot of an item; padding has dropped slots

    def first(self, rows: int) -> "SubSequence":
        """Return the first `rows` rows."""
        return SubSequence(self.seq[:rows], self.positions[:rows], self.slot[:rows])

    def targets(self, target: Tensor) -> Tensor:
        """Return the target of each kept slot: the next kept item, after the last one the row's label, [B, W].

        Slots that are not supervised in target [B, T] stay so, except the last one.
        """
        supervised = target.gather(1, self.slot) > 0
        supervised[:, -1] = True
        return newer(self.seq, target[:, -1:]) * (supervised & (self.seq > 0))


def newest_kept(kept: Tensor, width: int) -> Tensor:
    """Return the column, in sub-sequences of `width`, of the newest item kept up to each slot of kept [B, T], -1 if none."""
    count = kept.cumsum(1)
    return torch.where(count > 0, width - count[:, -1:] + count - 1, -1)


def compact(seq: Tensor, kept: Tensor, positions) -> SubSequence:
    """Right-align the kept items of seq [B, T]; each keeps its position in the whole row, given by `positions`.

    `positions` maps a mask [B, T] to positions [B, T].
    """
    slot = kept.int().argsort(dim=1, stable=True)[:, -int(kept.sum(1).max()) :]
    moved = (seq * kept).gather(1, slot)
    mask = moved > 0
    return SubSequence(moved, torch.where(mask, positions(seq > 0).gather(1, slot), positions(mask)), slot)


def older(values: Tensor) -> Tensor:
    """Move values [B, T] one slot to the right: each slot gets the value of the older one, the first one 0."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], 1)


def newer(values: Tensor, last: Tensor | int) -> Tensor:
    """Move values [B, T] one slot to the left: each slot gets the value of the newer one, the last one `last`."""
    return torch.cat([values[:, 1:], torch.zeros_like(values[:, :1]) + last], 1)
