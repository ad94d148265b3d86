"""Contrast between two views of the sequences of a batch: NT-Xent (Chen et al., ICML 2020) on encoder states."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec.utils.errors import UserError, one_of
from seqrec.utils.groups import falling_groups

VECTORS = ("flat", "last")


class NTXent:
    """-log exp(s(a, a+) / temperature) over the sum of exp(s(a, m) / temperature) for all views m of other users and a+.

    Anchors are the 2B views of a batch, a+ is the other view of the same row; views of the same user are excluded from
    the denominator. `vector` is what s compares: "flat", the concatenated states of all slots (right-aligned, 0 at
    padding), or "last", the state of the newest item. s is the dot product, or with `cosine` the cosine.
    Computed in single precision also under autocast. Raises UserError on a value outside its range.
    """

    def __init__(self, vector: str, cosine: bool, temperature: float):
        one_of("method.vector", vector, VECTORS)
        if not temperature > 0:
            raise UserError(f"method.temperature={temperature}: must be a number above 0")
        self.vector, self.cosine, self.temperature = vector, cosine, temperature

    def __call__(self, hidden: Tensor, real: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each anchor [2B] and the fraction of anchors whose positive scores above all other candidates.

        `hidden` [2B, W, D] are the states of the views, 0 where `real` [2B, W] is False; `user` [B] are their users.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            if self.vector == "flat":
                products = flat_products(hidden, real)
            else:
                newest = hidden[torch.arange(len(real), device=real.device), last_real(real)]
                products = newest @ newest.T
            if self.cosine:
                norm = products.diagonal().clamp(min=1e-12).sqrt()
                products = products / (norm[:, None] * norm)
            return self.compare(products / self.temperature, user)

    @staticmethod
    def compare(logits: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each anchor [2B] and the accuracy, given logits [2B, 2B]."""
        user = user.repeat(2)
        positive = torch.arange(len(user), device=user.device).roll(len(user) // 2)[:, None]
        left_out = (user[:, None] == user).scatter(1, positive, False)  # the anchor itself is one of them
        logits = logits.masked_fill(left_out, -torch.inf)
        others = logits.detach().scatter(1, positive, -torch.inf).amax(1)
        accuracy = (logits.gather(1, positive)[:, 0] > others).float().mean()
        return F.cross_entropy(logits, positive[:, 0], reduction="none"), accuracy


def weighted_sum(next_item: Tensor, anchors: Tensor, accuracy: Tensor, weight: float) -> dict[str, Tensor]:
    """Return L_next + weight * L_contrast and its parts, of the loss of each anchor and the contrastive accuracy."""
    contrast = anchors.mean()
    return {
        "loss": next_item + weight * contrast,
        "next_item": next_item,
        "contrast": contrast,
        "contrast_accuracy": accuracy,
    }


def last_real(real: Tensor) -> Tensor:
    """Return the last slot of each row that is True in `real` [B, W], as [B]; the very last where none is."""
    return real.shape[1] - 1 - real.flip(1).int().argmax(1)


def flat_products(hidden: Tensor, real: Tensor, shrink: float = 0.8) -> Tensor:
    """Return the dot products [M, M] of rows hidden [M, W, D] flattened to [M, W * D].

    Most rows are short and have zeros in their older slots. Slots are taken in groups, from the newest on, and each
    group's products are computed among the rows that reach it; a new group begins where fewer than `shrink` times as
    many rows do. On an accelerator there is one group.
    """
    rows, width = real.shape
    reach = width - real.int().argmax(1)
    if real.device.type != "cpu":
        return hidden.flatten(1) @ hidden.flatten(1).T
    order = reach.argsort(descending=True)
    reaching = (reach[:, None] > torch.arange(width)).sum(0).numpy()  # rows with an item that old, by age of the slot
    groups = [(*ages, int(reaching[ages[0]])) for ages in falling_groups(reaching, lambda most: shrink * most)]
    index = [
        (order[:members, None] * width + (width - 1 - torch.arange(start, stop))).flatten()
        for start, stop, members in groups
    ]
    cells = hidden.flatten(0, 1)[torch.cat(index)].split([len(part) for part in index])
    total = hidden.new_zeros(rows, rows)
    for (_, _, members), part in zip(groups, cells, strict=True):
        flat = part.view(members, -1)
        total = total + F.pad(flat @ flat.T, (0, rows - members, 0, rows - members))
    inverse = order.argsort()
    return total[inverse][:, inverse]
