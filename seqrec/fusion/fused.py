"""The fused scorer: what evaluation, recommendations and robustness see in place of the trained method."""

import torch
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.fusion.features import FeatureSet


class Fused(nn.Module):
    """z = sum_m w_m s_m + sum_p w_p q_p + sum_f w_f x_f: scores of models, item features and count features.

    `weights` [G, M + P + F] come in this order, a row for each group of histories: group g has more than lengths[g - 1]
    and up to lengths[g] items. Count features are added where they are not 0 only.
    """

    def __init__(
        self, models: list[nn.Module], features: FeatureSet, weights: Tensor, lengths: list[int], max_len: int
    ):
        super().__init__()
        self.models, self.features, self.weights, self.max_len = nn.ModuleList(models), features, weights, max_len
        sizes = [len(models), len(features.of_items), len(features.counted)]
        of_models, of_items, of_counts = weights.float().split(sizes, 1)
        self.register_buffer("lengths", torch.tensor(lengths, dtype=torch.long), persistent=False)
        self.register_buffer("of_models", of_models, persistent=False)  # [G, M]
        self.register_buffer("of_items", of_items @ features.of_items, persistent=False)  # [G, V + 1]
        self.register_buffer("of_counts", of_counts, persistent=False)  # [G, F]

    @property
    def names(self) -> list[str]:
        """Return what each weight belongs to."""
        return weight_names(len(self.models), self.features)

    def without_models(self) -> "Fused":
        """Return the scorer of the item and count features alone, under the same weights."""
        weights = self.weights[:, len(self.models) :]
        return Fused([], self.features, weights, self.lengths.tolist(), self.max_len)

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        """Return the fused scores, [B, V + 1]."""
        group = torch.bucketize((batch.seq > 0).sum(1), self.lengths)  # [B]
        one = group[:1] if (group == group[0]).all() else group  # of_items is as large as the scores otherwise
        score = self.of_items[one]
        if not self.models:
            score = score.expand(len(group), -1).contiguous()
        for weight, model in zip(self.of_models[one].T, self.models, strict=True):
            own = model.score(batch).float()
            score = torch.addcmul(score, own, weight[:, None], out=own)
        for weight, feature in zip(self.of_counts[group].T, self.features.each(batch.seq), strict=True):
            row, cell, value = (part.to(score.device) for part in feature)
            score.view(-1).index_add_(0, cell, value.mul_(weight[row]))
        return score


def weight_names(models: int, features: FeatureSet) -> list[str]:
    """Return what each weight belongs to: model, model_2, ..., item features, count features."""
    names = ["model", *(f"model_{number}" for number in range(2, models + 1))][:models]
    items = [name for name in features.names if name not in features.counted]
    return [*names, *items, *features.counted]
