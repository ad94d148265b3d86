"""The fused scorer: what evaluation, recommendations and robustness see in place of the trained method."""

import torch
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.fusion.features import FeatureSet


class Fused(nn.Module):
    """z = sum_m w_m s_m + sum_p w_p q_p + sum_f w_f x_f: scores of models, item features and count features.

    `weights` [M + P + F] come in this order. Count features are added where they are not 0 only.
    """

    def __init__(self, models: list[nn.Module], features: FeatureSet, weights: Tensor, max_len: int):
        super().__init__()
        self.models, self.features, self.weights, self.max_len = nn.ModuleList(models), features, weights, max_len
        self.of_models, of_items, self.of_counts = (
            part.tolist() for part in weights.split([len(models), len(features.of_items), len(features.counted)])
        )
        self.register_buffer("of_items", torch.tensor(of_items) @ features.of_items, persistent=False)

    @property
    def names(self) -> list[str]:
        """Return what each weight belongs to."""
        return weight_names(len(self.models), self.features)

    def without_models(self) -> "Fused":
        """Return the scorer of the item and count features alone, under the same weights."""
        return Fused([], self.features, self.weights[len(self.models) :], self.max_len)

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        """Return the fused scores, [B, V + 1]."""
        if not self.models:
            score = self.of_items.repeat(len(batch.seq), 1)
        for number, (weight, model) in enumerate(zip(self.of_models, self.models, strict=True)):
            own = model.score(batch).float()
            score = torch.add(score if number else self.of_items, own, alpha=weight, out=own)
        for weight, (cell, value) in zip(self.of_counts, self.features.each(batch.seq), strict=True):
            score.view(-1).index_add_(0, cell.to(score.device), value.to(score.device), alpha=weight)
        return score


def weight_names(models: int, features: FeatureSet) -> list[str]:
    """Return what each weight belongs to: model, model_2, ..., item features, count features."""
    names = ["model", *(f"model_{number}" for number in range(2, models + 1))][:models]
    items = [name for name in features.names if name not in features.counted]
    return [*names, *items, *features.counted]
