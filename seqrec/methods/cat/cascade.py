"""Cascade effects: how many training predictions an interaction influences (reconstruction: see docs/methods/cat.md)."""

import numpy as np
import torch
from torch import Tensor

from seqrec.data.sequences import Sequences, ranges

LEAST = 1e-30  # the sum of inverses over a sequence fits into single precision
CROSS = ("effect", "count", "batch", "none")


def direct_effects(train: Sequences, max_len: int, prefixes: bool, decay: float) -> Tensor:
    """Return D(u, t) = sum of decay^(k - t) over the user's own predictions k with interaction t as input, [len(train.items)] double.

    It is 0 where no prediction does: at a user's last training item, which is a target only, and further back than
    `max_len` inputs (with `prefixes` every prediction has a window of its own, which reaches further).
    """
    offsets = ranges(train.start, train.stop)
    newer = (
        np.repeat(train.stop, train.lengths) - 2 - offsets
    )  # inputs of the user after this one, -1 for the last item
    first = np.maximum(newer - max_len + 1, 0)  # distance k - t to the oldest and to the newest prediction
    last = np.minimum(newer, max_len - 1)
    power_sum = np.concatenate([[0.0], np.cumsum(decay ** np.arange(max_len))])
    seen = first <= (last if prefixes else 0)
    effect = np.zeros(len(train.items))
    # not a difference of two sums of powers, which would lose old items to rounding
    effect[offsets] = np.where(seen, decay**first * power_sum[np.maximum(last - first + 1, 0)], 0)
    return torch.from_numpy(effect)


def others_effects(user: Tensor, item: Tensor, effect: Tensor) -> Tensor:
    """Return, for each interaction (user, item) [N], the sum of `effect` over other users' interactions with the item, [N]."""
    width = int(item.max()) + 1
    total = effect.new_zeros(width).index_add(0, item, effect)
    pair, index = torch.unique(user * width + item, return_inverse=True)
    own = effect.new_zeros(len(pair)).index_add(0, index, effect)
    return total[item] - own[index]


def cascade_effects(
    train: Sequences, max_len: int, prefixes: bool, decay: float, cross: str, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Return C(u, t) = D(u, t) + X(u, t) and D(u, t), [len(train.items)] each; 0 where an interaction is never an input.

    X is the expected effect on the other sequences of a batch: (b / m) times the sum of D over other users'
    interactions with the same item (`cross="effect"`) or times their number ("count"), m being the rows of an epoch.
    X is 0 with "none", and with "batch", where it is counted in each batch.
    """
    direct = direct_effects(train, max_len, prefixes, decay)
    if cross in ("batch", "none"):
        return direct, direct
    rows = np.minimum(train.lengths - 1, max_len).clip(0).sum() if prefixes else (train.lengths >= 2).sum()
    offsets = torch.from_numpy(ranges(train.start, train.stop))
    user = torch.from_numpy(np.repeat(np.arange(len(train)), train.lengths))
    is_input = direct[offsets] > 0
    offsets, user = offsets[is_input], user[is_input]
    effect = direct[offsets] if cross == "effect" else torch.ones(len(offsets), dtype=torch.double)
    shared = others_effects(user, torch.from_numpy(train.items[offsets.numpy()]).long(), effect)
    return direct.index_add(0, offsets, min(1.0, batch_size / rows) * shared), direct


def single(effect: Tensor) -> Tensor:
    """Return effects in single precision, at least `LEAST`."""
    return effect.clamp(min=LEAST).float()


def inverse_weights(effect: Tensor, mask: Tensor, clip: float | None) -> Tensor:
    """Return w(u, t) proportional to 1 / effect with mean 1 over the real slots of each row, [B, T], 0 elsewhere.

    With `clip`, weights are clipped there and normalised to mean 1, twice.
    """
    weight = _mean_one(mask / effect.where(mask, 1), mask)
    if clip is not None:
        for _ in range(2):
            weight = _mean_one(weight.clamp(max=clip), mask)
    return weight


def shuffled(weight: Tensor, mask: Tensor) -> Tensor:
    """Return the weights [B, T] in a random order within the real slots of each row."""
    row = mask.nonzero()[:, 0]
    order = (row + torch.rand(len(row), dtype=torch.double, device=row.device)).argsort()
    return weight.masked_scatter(mask, weight[mask][order])


def _mean_one(weight: Tensor, mask: Tensor) -> Tensor:
    return weight * (mask.sum(1, keepdim=True) / weight.sum(1, keepdim=True))
