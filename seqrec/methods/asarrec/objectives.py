"""Objectives on the transformation matrices of AsarRec; reconstruction: see docs/methods/asarrec.md.

Matrices are [B, 2, N, N], rows are sources, columns targets, right-aligned; `original` [B, N] are the
slots of the n items of the history. All variants but R count slots: for them the history has to be without gaps.
"""

import torch
from torch import Tensor

INVARIANCE = ("D", "C", "A", "R")


def distance(matrix: Tensor, original: Tensor) -> Tensor:
    """Return d = ||M1 - M2||^2 / (2n) between the two matrices of each row, [B]."""
    return (matrix[:, 0] - matrix[:, 1]).square().sum((1, 2)) / (2 * original.sum(1))


def sequence_ndcg(matrix: Tensor, original: Tensor, variant: str) -> Tensor:
    """Return the sequence-aware NDCG of each view against its history, [B, 2]; it is linear in the matrix.

    Ages count from the newest item, which has 0. D: an item of age a weighs 1 / log2(a + 2) and gains
    1 / log2(move + 2). C: all weigh the same. A: the i-th of n items weighs i / n and gains 1 / log2(age of its slot + 2).
    R: as D, but the move is that of the item's rank among the items of the history that are kept (`rank_moves`).
    """
    width = matrix.shape[-1]
    weight = item_weights(original, variant)
    if variant == "R":
        gain = 1 / torch.log2(rank_moves(matrix.detach(), original) + 2)
        return ((matrix * gain).sum(-1) * weight[:, None]).sum(-1) / weight.sum(1, keepdim=True)
    age = torch.arange(width - 1, -1, -1, device=matrix.device)
    gain = 1 / torch.log2((age[:, None] - age).abs() + 2.0)
    if variant == "A":
        gain = (1 / torch.log2(age + 2.0)).expand(width, width)
    ideal = (weight * gain.diagonal()).sum(1, keepdim=True)
    return ((matrix * gain).sum(-1) * weight[:, None]).sum(-1) / ideal


def rank_moves(hard: Tensor, original: Tensor) -> Tensor:
    """Return by how many ranks an item in slot j is moved, [B, 2, N, N]: |items newer in the view - items newer in the history|,
    both counted among the other items of the history that the hard matrices [B, 2, N, N] keep.
    """
    kept = hard * original[:, None, :, None]
    filled = kept.sum(-2)  # [B, 2, N] slots of the view that hold an item of the history
    newer_there = _newer(filled)[..., None, :] - _newer(kept)  # without the item itself
    return (newer_there - _newer(kept.sum(-1))[..., None]).abs()


def _newer(count: Tensor) -> Tensor:
    """Return the sum of the slots to the right of each, [..., N]."""
    return count.flip(-1).cumsum(-1).flip(-1) - count


def worst_ndcg(original: Tensor, variant: str, budget: float, share: Tensor | None = None) -> Tensor:
    """Return the NDCG without the m = max(1, ceil(budget n)) items of the largest weight, [B].

    With `share` [B], m is multiplied by it, and of the last item that fraction is removed which is left of it.
    """
    removed = (original.sum(1, keepdim=True) * budget - 1e-4).ceil().clamp(min=1)  # .1 * 30 must not round up to 4
    removed = removed if share is None else removed * share[:, None]
    age = torch.arange(original.shape[1] - 1, -1, -1, device=original.device)
    value = item_weights(original, variant)
    if variant == "A":
        value = value / torch.log2(age + 2.0)
    heaviest = value.sort(1, descending=True).values
    rank = torch.arange(original.shape[1], device=original.device)
    return 1 - (heaviest * (removed - rank).clamp(0, 1)).sum(1) / heaviest.sum(1)


def item_weights(original: Tensor, variant: str) -> Tensor:
    """Return the weight of each original item in the NDCG, [B, N], 0 elsewhere."""
    age = _newer(original.long())
    if variant in ("D", "R"):
        return original / torch.log2(age + 2.0)
    if variant == "C":
        return original.float()
    length = original.sum(1, keepdim=True)
    return original * (length - age) / length
