"""How well the items that a method drops agree with labelled noise."""

import numpy as np
import torch
from scipy.stats import rankdata

from seqrec.data.loader import TrainLoader
from seqrec.data.sequences import Sequences
from seqrec.methods.base import Method, Untrained
from seqrec.utils.errors import UserError


def auc(score: np.ndarray, noise: np.ndarray) -> float:
    """Return the probability that a noisy item scores above a clean one, ties counted half; score [N], noise [N] bool."""
    rank = rankdata(score)
    noisy, clean = noise.sum(), (~noise).sum()
    return float((rank[noise].sum() - noisy * (noisy + 1) / 2) / (noisy * clean))


def report(drop: np.ndarray, score: np.ndarray, noise: np.ndarray) -> dict[str, float]:
    """Return what dropping each item with probability drop [N] finds, and the AUC of score [N].

    precision: fraction of the dropped items that is noise; recall: fraction of the noise that is dropped (the rest is
    under-denoised); over: fraction of the clean items that is dropped (over-denoised).
    """
    return {
        "AUC": auc(score, noise),
        "dropped": float(drop.mean()),
        "precision": float(drop[noise].sum() / max(drop.sum(), 1e-12)),
        "recall": float(drop[noise].mean()),
        "over": float(drop[~noise].mean()),
    }


def highest(score: np.ndarray, fraction: float) -> np.ndarray:
    """Return drop probabilities [N] that drop the given fraction of the items, those of the highest score [N]; ties are equally likely."""
    budget = fraction * len(score)
    _, index, count = np.unique(-score, return_inverse=True, return_counts=True)
    before = np.cumsum(count) - count
    return np.clip((budget - before) / count, 0, 1)[index]


def known_noise(
    method: Method | Untrained, train: Sequences, noise: np.ndarray, max_len: int, batch_size: int = 256
) -> dict[str, dict]:
    """Compare what `method` drops from the training histories with chance, inverse popularity, position and last-k.

    `noise` labels the items of `train`. Each baseline drops the same fraction of the items. Raises UserError where the
    method does not drop items, or nothing is labelled as noise.
    """
    keep, age, relative, index = [], [], [], []
    for batch in TrainLoader(train, batch_size, max_len, seed=0).epoch(0):
        probability = method.keep_probability(batch.to(method.items.weight.device)) if method.trained else None
        if probability is None:
            raise UserError(f"{type(method).__name__} drops no items: there is nothing to compare with the noise")
        real = batch.seq > 0
        newer = real.flip(1).cumsum(1).flip(1) - 1
        keep.append(probability.cpu()[real])
        age.append(newer[real])
        relative.append((newer / real.sum(1, keepdim=True))[real])
        index.append(batch.index[real])
    keep, age, relative, index = (torch.cat(part).numpy() for part in (keep, age, relative, index))
    label = noise[index]
    if not label.any() or label.all():
        raise UserError(
            "no training item is labelled as noise: take dataset=synthetic dataset.noise_share=.2, or noise=insert, replace or burst"
        )
    drop = 1 - keep.astype(float)
    fraction = drop.mean()
    count = train.item_counts(int(train.items.max()))
    rare = -count[train.items[index]].astype(float)
    rivals = {"inverse popularity": rare, "old items (position)": relative, "all but the last k": age.astype(float)}
    return {
        "method": report(drop, drop, label),
        "chance": report(np.full(len(drop), fraction), np.zeros(len(drop)), label),
        **{name: report(highest(score, fraction), score, label) for name, score in rivals.items()},
    }
