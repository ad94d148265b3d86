"""The transformation matrices of a batch, in groups of rows of similar length, and the quantities that the losses need."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.methods.asarrec import objectives, views
from seqrec.methods.asarrec.augmentation_encoder import AugmentationEncoder
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn, straight_through


@dataclass(frozen=True)
class Matrices:
    """The matrices of a group of G rows."""

    rows: views.Extended
    soft: Tensor  # [G, 2, N, N]
    hard: Tensor  # [G, 2, N, N] of 0 and 1

    @cached_property
    def straight_through(self) -> Tensor:
        """The hard matrices with the gradient of the soft ones, [G, 2, N, N]."""
        return straight_through(self.hard, self.soft)


def draw(
    augmenter: AugmentationEncoder,
    x: Tensor,
    rows: views.Extended,
    iterations: int,
    power: float,
    threshold: float,
) -> Matrices:
    """Draw the matrices of rows of similar length, given what the augmenter sees of their slots, x [G, N, D].

    In single precision also under autocast.
    """
    with torch.autocast(rows.items.device.type, enabled=False):
        probability = augmenter(x.detach().float(), rows.items > 0, rows.original, rows.target)
        soft = semi_sinkhorn(probability, iterations, power)
    return Matrices(rows, soft, discretise(soft, threshold))


def sources(groups: list[Matrices], width: int) -> Tensor:
    """Return the source slot of every slot of the hard views, [R, 2, width], -1 = empty."""
    return torch.cat([views.sources(group.hard, width) for group in groups])


def soft_views(groups: list[Matrices], items: nn.Embedding, width: int) -> Tensor:
    """Return the embeddings of the views, M^T x with the gradient of the soft matrices, [R, 2, width, D]."""
    made = [group.straight_through.transpose(-1, -2) @ items(group.rows.items).detach()[:, None] for group in groups]
    return torch.cat([F.pad(view, (0, 0, width - view.shape[2], 0)) for view in made])


def log_occupancy(groups: list[Matrices], hard: views.HardViews) -> Tensor:
    """Return log sum_i M_ij of every slot of the views [R, 2, N]: 0, with the gradient of the soft matrices where a slot has an item."""
    width = hard.source.shape[2]
    sums = [F.pad(group.straight_through.sum(-2), (width - group.soft.shape[-1], 0)) for group in groups]
    placed = (hard.source >= 0) & ~hard.fallback[..., None]
    return hard.arrange(torch.cat(sums).where(placed, 1).log())


def distances(groups: list[Matrices]) -> tuple[Tensor, Tensor]:
    """Return the distance between the two matrices of each row, [R]: hard with the soft one's gradient, and soft."""
    soft, hard = (
        torch.cat([objectives.distance(getattr(group, kind), group.rows.original) for group in groups])
        for kind in ("soft", "hard")
    )
    return straight_through(hard, soft), soft


def ndcg_margins(groups: list[Matrices], variant: str, budget: float) -> Tensor:
    """Return the NDCG of each view minus the worst one allowed, [R, 2]."""
    margins = []
    for group in groups:
        original = group.rows.original
        ndcg = objectives.sequence_ndcg(group.straight_through, original, variant)
        margins.append(ndcg - objectives.worst_ndcg(original, variant, budget)[:, None])
    return torch.cat(margins)
