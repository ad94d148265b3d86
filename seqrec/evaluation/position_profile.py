"""Per-position diagnostics of a trained method, for figures."""

import math
from itertools import islice

import numpy as np
import torch

from seqrec.data.loader import TrainLoader
from seqrec.data.sequences import Sequences
from seqrec.methods.base import Method

SAMPLE = 2048  # at least this many histories, for smooth means
LEAST = 20  # histories needed for a mean


def position_profile(
    method: Method, train: Sequences, max_len: int, batch_size: int, device: torch.device
) -> dict[str, np.ndarray]:
    """Return means of `method.position_profile` over training histories, by how far back the items are.

    Position 0 is the newest item: [T] for a value per slot, [T, T] for one per pair of slots; NaN where fewer than
    `LEAST` histories reach. Empty for a method without such values. Restores the random state.
    """
    total, count = {}, {}
    method.eval()
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for batch in islice(TrainLoader(train, batch_size, max_len, seed=0).epoch(0), math.ceil(SAMPLE / batch_size)):
            for name, values in method.position_profile(batch.to(device)).items():
                axes = tuple(range(1, values.dim()))
                known = ~values.isnan()
                for sums, part in ((total, values.nan_to_num()), (count, known)):
                    part = part.sum(0, dtype=torch.double, keepdim=True).flip(axes)[0]
                    sums.setdefault(name, torch.zeros((max_len,) * len(axes), dtype=torch.double))
                    sums[name][tuple(slice(size) for size in part.shape)] += part.cpu()
    return {name: torch.where(count[name] >= LEAST, total[name] / count[name], torch.nan).numpy() for name in total}
