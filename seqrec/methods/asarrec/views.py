"""Histories with room for insertions, and their hard views as source slots: the index arithmetic of AsarRec."""

from dataclasses import dataclass

import torch
from torch import Tensor

from seqrec.batch import Batch


@dataclass(frozen=True)
class Extended:
    """Rows [padding][k candidates][n items of the history], or of pairs of a candidate and an item, by decreasing n."""

    items: Tensor  # [R, N] item ids, 0 = empty
    original: Tensor  # [R, N] bool, the slots of the history
    target: Tensor  # [R, N] bool, possible target slots: the history's and the candidates'

    def cut(self, rows: slice) -> "Extended":
        """Return some rows, without the padding that they share."""
        width = int(self.target[rows.start].sum())
        return Extended(self.items[rows, -width:], self.original[rows, -width:], self.target[rows, -width:])


@dataclass(frozen=True)
class HardViews:
    """Two views per history: the source slot of the item in each slot."""

    drawn: Tensor  # [R, 2, N] source slots, -1 = empty
    source: Tensor  # [R, 2, N] the same, but the identity where too little of the history is kept
    fallback: Tensor  # [R, 2] bool
    order: Tensor | None  # [R, 2, N] slots in the order of the compact view

    def arrange(self, view: Tensor) -> Tensor:
        """Close the holes of view [R, 2, N, ...] if the views are compact."""
        if self.order is None:
            return view
        order = self.order.view(*self.order.shape, *[1] * (view.dim() - 3)).expand_as(view)
        return view.gather(2, order)

    def items(self, extended: Extended) -> Tensor:
        """Return the item ids of the views, [R, 2, N], 0 = empty."""
        found = extended.items[:, None].expand_as(self.source).gather(2, self.source.clamp(min=0))
        return self.arrange(found * (self.source >= 0))


def rows_to_augment(batch: Batch, shortest: int) -> Tensor:
    """Return the rows to augment [R], by decreasing length: at least `shortest` items, and the first of each user.

    Views of the same user must not be negatives of each other.
    """
    length = (batch.seq > 0).sum(1)
    rows = (length >= shortest).nonzero()[:, 0]
    _, person = batch.user[rows].unique(return_inverse=True)
    first = rows.new_full((len(rows),), len(length)).scatter_reduce(0, person, rows, "amin")
    rows = first[first < len(length)]
    return rows[length[rows].argsort(descending=True, stable=True)]


def extend(seq: Tensor, candidates: Tensor) -> Extended:
    """Put candidates [R, k], best first, directly before histories seq [R, T] of decreasing length, the best one nearest."""
    count = candidates.shape[1]
    real = seq > 0
    first = seq.shape[1] + count - real.sum(1, keepdim=True)  # slot of the oldest item
    slot = torch.arange(seq.shape[1] + count, device=seq.device)
    beside = first - 1 - torch.arange(count, device=seq.device)
    empty = seq.new_zeros(candidates.shape)
    items = torch.cat([empty, seq], 1).scatter(1, beside, candidates)
    return Extended(items, torch.cat([empty.bool(), real], 1), slot >= first - count)


def beside(seq: Tensor, candidates: Tensor) -> Extended:
    """Put a candidate [R, T], 0 = none, directly before each item of histories seq [R, T] of decreasing length: 2T slots."""
    items, real = torch.stack([candidates, seq], 2).flatten(1), seq > 0
    return Extended(items, torch.stack([real & False, real], 2).flatten(1), real.repeat_interleave(2, 1))


def sources(hard: Tensor, width: int) -> Tensor:
    """Return the source slot of every slot, [B, 2, width], -1 = empty, of hard matrices [B, 2, N, N] that lack padding."""
    pad = width - hard.shape[-1]
    found = torch.where(hard.sum(-2) > 0, hard.argmax(-2) + pad, -1)
    return torch.nn.functional.pad(found, (pad, 0), value=-1)


def identity_source(extended: Extended) -> Tensor:
    """Return the sources [R, 1, N] of the view that is the history itself."""
    slot = torch.arange(extended.items.shape[1], device=extended.items.device)
    return torch.where(extended.original, slot, -1)[:, None]


def hard_views(extended: Extended, source: Tensor, least: float, compact: bool) -> HardViews:
    """Return the views with source slots [R, 2, N].

    A view that keeps fewer than max(1, ceil(least n)) items of the history becomes the identity; with `compact` the
    empty slots of a view are at its left end.
    """
    kept = (from_history(extended, source)).sum(2)
    needed = (extended.original.sum(1, keepdim=True) * least - 1e-4).ceil().clamp(min=1)
    fallback = kept < needed
    used = torch.where(fallback[..., None], identity_source(extended), source)
    order = (used >= 0).long().argsort(dim=2, stable=True) if compact else None
    return HardViews(source, used, fallback, order)


def from_history(extended: Extended, source: Tensor) -> Tensor:
    """Return the slots of the views that hold an item of the history, [R, 2, N] bool."""
    return extended.original[:, None].expand_as(source).gather(2, source.clamp(min=0)) & (source >= 0)


def fractions(extended: Extended, source: Tensor) -> dict[str, Tensor]:
    """Return how many items were dropped, moved and inserted, as fractions of the items of the histories."""
    own = from_history(extended, source)
    slot = torch.arange(source.shape[2], device=source.device)
    total = 2 * extended.original.sum()
    return {
        "dropped": 1 - own.sum() / total,
        "moved": (own & (source != slot)).sum() / total,
        "inserted": ((source >= 0) & ~own).sum() / total,
    }


def fractions_by_slot(extended: Extended, placed: Tensor, own: slice) -> dict[str, Tensor]:
    """Return, of the history's slots `own`, how often an item is dropped or another is put there, [R, T], and where items
    go, target by source, [R, T, T]; NaN outside histories. `placed` [R, N, N] is the fraction of views with a source in a slot.
    """
    real = extended.original[:, own]
    return {
        "dropped": (1 - placed[:, :, own].sum(1)).where(real, torch.nan),
        "inserted": (placed * ~extended.original[:, None])[:, own].sum(2).where(real, torch.nan),
        "matrix": placed[:, own, own].where(real[:, None] & real[:, :, None], torch.nan),
    }


def stacked(view: Tensor) -> Tensor:
    """Put the second views [R, 2, ...] below the first, [2R, ...]."""
    return view.transpose(0, 1).flatten(0, 1)


def rows_of(view: Tensor) -> Tensor:
    """Number the R histories of stacked views [2R, ...]: each has its own user."""
    return torch.arange(len(view) // 2, device=view.device)
