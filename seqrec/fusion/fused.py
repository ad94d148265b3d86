"""The fused scorer: what evaluation, recommendations and robustness see in place of the trained method."""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.fusion.features import FeatureSet

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")  # torch says it once, whatever is done


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
        self.register_buffer("weights_of_items", of_items, persistent=False)  # [G, P]
        self.register_buffer("of_items", features.of_items, persistent=False)  # [P, V + 1]
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
        score = None  # becomes the first model's matrix; one of zeros to add it to would cost two passes over memory
        for weight, model in zip(self.of_models[group].T, self.models, strict=True):
            own = model.score(batch).float()
            score = own.mul_(weight[:, None]) if score is None else score.addcmul_(own, weight[:, None])
        item_terms = (self.weights_of_items[group], self.of_items)
        score = torch.mm(*item_terms) if score is None else score.addmm_(*item_terms)
        items, of_counts = batch.seq.cpu().numpy(), self.of_counts[group].T.cpu().numpy()  # [F, B]

        def add_counts(rows: slice) -> None:
            for weight, feature in zip(of_counts, self.features.each(items[rows]), strict=True):
                feature.data *= np.repeat(weight[rows], np.diff(feature.indptr))
                score[rows].add_(as_torch(feature).to(score.device))

        size = math.ceil(len(items) / torch.get_num_threads())
        with ThreadPoolExecutor() as threads:
            list(threads.map(add_counts, [slice(first, first + size) for first in range(0, len(items), size)]))
        return score


class Newest(nn.Module):
    """A model that was trained on the `max_len` newest items, for batches of longer histories."""

    def __init__(self, model: nn.Module, max_len: int):
        super().__init__()
        self.model, self.max_len = model, max_len

    def score(self, batch: Batch) -> Tensor:
        """Return the model's scores of the newest items, [B, V + 1]."""
        seen = {name: getattr(batch, name)[:, -self.max_len :] for name in ("seq", "target", "index")}
        return self.model.score(replace(batch, **seen))


def as_torch(matrix: csr_array) -> Tensor:
    """Return the same sparse rows as a tensor."""
    parts = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return torch.sparse_csr_tensor(*parts, matrix.shape, check_invariants=False)


def weight_names(models: int, features: FeatureSet) -> list[str]:
    """Return what each weight belongs to: model, model_2, ..., item features, count features."""
    names = ["model", *(f"model_{number}" for number in range(2, models + 1))][:models]
    items = [name for name in features.names if name not in features.counted]
    return [*names, *items, *features.counted]
