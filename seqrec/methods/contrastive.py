"""The common training step of contrastive methods: sequences and their views in one encoder call."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec.batch import Batch
from seqrec.losses.contrastive import NTXent, weighted_sum
from seqrec.methods.base import Method


def encode_with_views(method: Method, seq: Tensor, views: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Encode seq [B, T] and its views [2B, W] in one call; returns their states [B, T, D] and [2B, W, D].

    `taken` [2B, W] are the slots that a view occupies, holes included, which determine the positions of its items.
    """
    clean = F.pad(seq, (views.shape[1] - seq.shape[1], 0))
    taken = torch.cat([clean > 0, taken])
    hidden = method.encode(torch.cat([clean, views]), positions=method.backbone.positions(taken))
    clean, viewed = hidden.split([len(seq), len(views)])
    return clean[:, views.shape[1] - seq.shape[1] :], viewed


def next_item_and_contrast(
    method: Method, contrast: NTXent, weight: float, batch: Batch, views: Tensor, taken: Tensor
) -> dict[str, Tensor]:
    """Return L_next + weight * L_contrast and its terms; views and taken as for `encode_with_views`."""
    hidden, viewed = encode_with_views(method, batch.seq, views, taken)
    next_item = method.next_item_loss(hidden, batch)
    return weighted_sum(next_item, *contrast(viewed, views > 0, batch.user), weight)
