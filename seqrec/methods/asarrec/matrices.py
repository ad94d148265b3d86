"""The transformation matrices of a batch, a block of rows at a time, and the quantities that the losses need of them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqrec.methods.asarrec import objectives, views
from seqrec.methods.asarrec.augmentation_encoder import VIEWS, AugmentationEncoder
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn, straight_through
from seqrec.utils.groups import falling_groups

LARGEST = 2**22  # entries of a block's matrices; larger groups of rows are cut


@dataclass(frozen=True)
class Rules:
    """How matrices are made and judged."""

    iterations: int
    power: float
    threshold: float
    invariance: str
    budget: float


class Effects(NamedTuple):
    """What the matrices of R rows do, without the matrices; all but `source` have the gradient of the soft ones."""

    source: Tensor  # [R, 2, N] source slot of every slot of the hard views, -1 = empty
    distance: Tensor | None = None  # [R] between the two hard matrices
    soft_distance: Tensor | None = None  # [R]
    margin: Tensor | None = None  # [R, 2] NDCG of each view minus the worst one allowed
    view: Tensor | None = None  # [R, 2, N, D] M^T x
    occupancy: Tensor | None = None  # [R, 2, N] sum_i M_ij


def groups(widths: Tensor, shrink: float = 0.65) -> list[slice]:
    """Split rows of decreasing widths [R] into groups; a new one begins where rows get shorter than `shrink` times the widest of
    the group. On an accelerator there is one group: a launch costs more than padding.
    """
    if widths.device.type != "cpu":
        return [slice(0, len(widths))]
    return [slice(*rows) for rows in falling_groups(widths.numpy(), lambda widest: shrink * widest)]


def blocks(widths: Tensor) -> list[tuple[slice, bool]]:
    """Return the groups, cut where matrices would be large, and whether each was cut."""
    found = []
    for group in groups(widths):
        rows = max(1, LARGEST // (VIEWS * int(widths[group.start]) ** 2))
        for first in range(group.start, group.stop, rows):
            found.append((slice(first, min(first + rows, group.stop)), rows < group.stop - group.start))
    return found


def draw(augmenter: AugmentationEncoder, seen: Tensor, rows: views.Extended, rules: Rules) -> tuple[Tensor, Tensor]:
    """Draw soft and hard matrices [G, 2, N, N] of rows of similar length, given what the augmenter sees of their slots [G, N, D].

    In single precision also under autocast.
    """
    with torch.autocast(rows.items.device.type, enabled=False):
        probability = augmenter(seen.detach().float(), rows.items > 0, rows.original, rows.target)
        soft = semi_sinkhorn(probability, rules.iterations, rules.power)
    return soft, discretise(soft, rules.threshold)


def effects(
    augmenter: AugmentationEncoder,
    seen: Tensor,
    x: Tensor,
    rows: views.Extended,
    share: Tensor | None,
    rules: Rules,
    width: int,
) -> Effects:
    """Draw matrices of a block and return what they do to embeddings x [G, N, D], padded to `width` slots.

    `share` [G] multiplies the items that a view may lose; None: 1. Without gradients the sources alone are returned.
    """
    soft, hard = draw(augmenter, seen, rows, rules)
    source, padding = views.sources(hard, width), (width - hard.shape[-1], 0)
    if not torch.is_grad_enabled():
        return Effects(source)
    soft_distance, hard_distance = (objectives.distance(matrix, rows.original) for matrix in (soft, hard))
    matrix = straight_through(hard, soft)
    ndcg = objectives.sequence_ndcg(matrix, rows.original, rules.invariance)
    worst = objectives.worst_ndcg(rows.original, rules.invariance, rules.budget, share)
    return Effects(
        source,
        straight_through(hard_distance, soft_distance),
        soft_distance,
        ndcg - worst[:, None],
        F.pad(matrix.transpose(-1, -2) @ x[:, None], (0, 0, *padding)),
        F.pad(matrix.sum(-2), padding),
    )


def all_effects(
    augmenter: AugmentationEncoder,
    seen: Tensor,
    x: Tensor,
    extended: views.Extended,
    share: Tensor | None,
    rules: Rules,
) -> Effects:
    """Return the effects of all rows on their embeddings x [R, N, D], computed a block at a time.

    Of a group that was cut no matrix is kept: the backward pass draws it again, with the same noise.
    """
    parts, width = [], extended.items.shape[1]
    for block, cut in blocks(extended.target.sum(1)):
        rows = extended.cut(block)
        cells = slice(width - rows.items.shape[1], None)
        own = None if share is None else share[block]
        given = (augmenter, seen[block, cells], x[block, cells], rows, own, rules, width)
        again = cut and torch.is_grad_enabled()
        parts.append(checkpoint(effects, *given, use_reentrant=False) if again else effects(*given))
    return Effects(*(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)))


def log_occupancy(made: Effects, hard: views.HardViews) -> Tensor:
    """Return log sum_i M_ij of every slot of the views [R, 2, N]: 0, with the gradient of the soft matrices where a slot has an item."""
    placed = (hard.source >= 0) & ~hard.fallback[..., None]
    return hard.arrange(made.occupancy.where(placed, 1).log())
