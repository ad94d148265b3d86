"""The augmentation encoder of AsarRec: one probabilistic transition matrix per view; reconstruction: see docs/methods/asarrec.md."""

import math

import torch
from torch import Tensor, nn

VIEWS = 2  # one attention head each


class AugmentationEncoder(nn.Module):
    """A linear transformation and two attention heads whose weights are the probabilities that a source item goes to a target slot.

    Rows are sources, columns are targets. Every source also has a null target: an original item that goes
    there is dropped, a candidate is not inserted. A prior bias gives staying (for candidates: the null target) the
    probability q = `stay` when all else is equal. `gumbel` is the factor g of the noise on the logits in training.
    """

    def __init__(self, dim: int, slots: int, stay: float, gumbel: float):
        super().__init__()
        self.stay, self.gumbel = stay, gumbel
        self.position = nn.Embedding(slots, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.input = nn.Linear(dim, dim)
        self.query, self.key = (nn.Linear(dim, VIEWS * dim, bias=False) for _ in range(2))
        self.null = nn.Linear(dim, VIEWS, bias=False)

    def forward(self, x: Tensor, item: Tensor, original: Tensor, target: Tensor) -> Tensor:
        """Return the transition matrices [B, 2, N, N] of embeddings x [B, N, D], right-aligned; row sums are at most 1.

        `item` [B, N]: the slots with an item (all others have an empty row); `original`: those of the history; `target`: the
        slots that an item may go to (all others have an empty column).
        """
        rows, width, dim = x.shape
        hidden = self.input(x + self.position.weight[-width:])
        query, key = (part(hidden).view(rows, width, VIEWS, dim).transpose(1, 2) for part in (self.query, self.key))
        prior = target.sum(1).log() + math.log(self.stay / (1 - self.stay))  # b = ln N_valid + ln(q / (1 - q))
        attention = query @ key.transpose(-1, -2) / dim**0.5 + torch.diag_embed(original * prior[:, None])[:, None]
        attention = attention.masked_fill(~target[:, None, None], -math.inf)
        null = self.null(hidden) + ((item & ~original) * prior[:, None])[..., None]
        logits = torch.cat([attention, null.transpose(1, 2)[..., None]], -1)
        if self.training and self.gumbel:
            logits = logits - self.gumbel * torch.empty_like(logits).exponential_().log()
        return logits.softmax(-1)[..., :-1] * item[:, None, :, None]
