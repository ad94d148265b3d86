"""Scores and top lists of a method, for users of its data set and for sequences of raw item ids."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqrec.data.dataset import Dataset
from seqrec.data.loader import EvalLoader
from seqrec.data.sequences import Sequences
from seqrec.data.split import EvalSplit
from seqrec.evaluation.evaluator import NOT_FINITE, rows_at_once
from seqrec.methods.base import Method
from seqrec.utils.errors import UserError


def of_users(dataset: Dataset, ids: list[str]) -> EvalSplit:
    """Return a row per user, with all of its interactions. Raises UserError for an unknown user."""
    users = dataset.users_of(ids)
    return _rows(users, Sequences(dataset.items, dataset.offsets[users], dataset.offsets[users + 1]))


def of_sequences(
    dataset: Dataset, sequences: Sequence[Sequence], names: Iterable[object] | None = None
) -> tuple[EvalSplit, int]:
    """Return a row per sequence of raw item ids, oldest first, without unknown ids, and how many of these there were.

    Raises UserError, with the name of the row (its number by default), where no known item is left.
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    ids = list(map(str, chain.from_iterable(sequences)))
    items = pd.Index(dataset.item_ids[1:].astype(str)).get_indexer(ids).astype(np.int32) + 1  # 0 where unknown
    row = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(row[items > 0], minlength=len(lengths))
    for empty in np.flatnonzero(counts == 0)[:1]:
        name = empty if names is None else list(names)[empty]
        raise UserError(
            f"sequence {name}: none of its {lengths[empty]} items is in '{dataset.name}' "
            f"(its ids look like {dataset.item_ids[1]})"
        )
    stop = np.cumsum(counts)
    return _rows(np.zeros_like(counts), Sequences(items[items > 0], stop - counts, stop)), int((items == 0).sum())


def _rows(users: np.ndarray, history: Sequences) -> EvalSplit:
    return EvalSplit(users, np.zeros_like(users), history, history)  # there is no target


@torch.no_grad()
def scores(
    method: Method, rows: EvalSplit, num_items: int, device: torch.device, mask_history: bool = True
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield numbers of rows [B] and their scores [B, V + 1]; -inf at padding and, with `mask_history`, at items of the history."""
    method.eval()
    for chosen, batch in EvalLoader(rows, rows_at_once(num_items, 256), method.max_len):
        scored = method.score(batch := batch.to(device)).float()
        scored[:, 0] = -torch.inf
        if mask_history:
            scored[batch.seen] = -torch.inf
        yield chosen, scored


def recommend(
    method: Method, dataset: Dataset, rows: EvalSplit, top: int, device: torch.device, mask_history: bool = True
) -> list[list]:
    """Return the raw ids of the `top` best items of each row, best first; fewer where fewer are left.

    Raises UserError if a score is not a number.
    """
    lists: list[list] = [[] for _ in rows.user]
    for chosen, scored in scores(method, rows, dataset.num_items, device, mask_history):
        values, best = (found.cpu().numpy() for found in scored.topk(min(top, dataset.num_items), 1))
        if np.isnan(values).any():  # topk puts them first
            raise UserError(NOT_FINITE)
        for row, value, items in zip(chosen, values, best, strict=True):
            lists[row] = dataset.item_ids[items[value > -np.inf]].tolist()
    return lists
