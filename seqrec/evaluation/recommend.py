"""Top lists for users, under the ids of the raw data."""

import numpy as np
import torch

from seqrec.data.dataset import Dataset
from seqrec.data.loader import EvalLoader
from seqrec.data.sequences import Sequences
from seqrec.data.split import EvalSplit
from seqrec.methods.base import Method


@torch.no_grad()
def recommend(method: Method, dataset: Dataset, users: list[str], top: int, device: torch.device) -> list[list]:
    """Return the `top` best new items of each user after all of its interactions, all new ones where there are fewer.

    Raises UserError for an unknown user.
    """
    rows = dataset.users_of(users)
    history = Sequences(dataset.items, dataset.offsets[rows], dataset.offsets[rows + 1])
    method.eval()
    lists: list[list] = [[] for _ in users]
    for chosen, batch in EvalLoader(EvalSplit(rows, np.zeros_like(rows), history, history), 256, method.max_len):
        scores = method.score(batch := batch.to(device))
        scores[:, 0] = -torch.inf
        scores[batch.seen] = -torch.inf
        values, best = (found.cpu().numpy() for found in scores.topk(min(top, dataset.num_items), 1))
        for row, value, items in zip(chosen, values, best, strict=True):
            lists[row] = dataset.item_ids[items[value > -np.inf]].tolist()
    return lists
