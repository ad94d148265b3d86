"""From raw data to the arrays of a data set: filter, sort by user and time, number from 0 (users) and 1 (items)."""

import numpy as np

from seqrec.data.raw import Raw
from seqrec.utils.errors import UserError


def prepare(raw: Raw, min_rating: float | None, k_core: int | None, where: object) -> dict[str, np.ndarray]:
    """Return items, offsets, user_ids, item_ids and, where the raw data have them, times: the arrays of `Dataset`.

    Interactions rated below `min_rating` are dropped first; then users and items with fewer than `k_core` interactions
    (including repeats), until none is left. Users and items are numbered in ascending order of their raw ids.
    Interactions at equal times keep file order, and repeats stay. Raises UserError if nothing is left.
    """
    keep = np.arange(len(raw.user))
    if min_rating is not None:
        if raw.rating is None:
            raise UserError(f"dataset.min_rating={min_rating}: {where} has no ratings; set dataset.min_rating=null")
        keep = np.flatnonzero(raw.rating >= min_rating)
        if not len(keep):
            highest = raw.rating.max()
            raise UserError(
                f"dataset.min_rating={min_rating}: nothing is left of {where}; its highest rating is {highest:g}"
            )
    if k_core is not None:
        keep = keep[core(raw.user[keep], raw.item[keep], k_core)]
        if not len(keep):
            raise UserError(f"dataset.k_core={k_core}: nothing is left of {where}; take a lower k_core")
    user, user_ids = renumber(raw.user[keep], raw.user_ids)
    item, item_ids = renumber(raw.item[keep], raw.item_ids)
    order = np.argsort(user, kind="stable") if raw.time is None else np.lexsort((raw.time[keep], user))
    arrays = {
        "items": (item[order] + 1).astype(np.int32),
        "offsets": np.concatenate(([0], np.cumsum(np.bincount(user)))).astype(np.int64),
        "user_ids": user_ids,
        "item_ids": np.concatenate((np.zeros(1, item_ids.dtype), item_ids)),  # 0 or "" for the padding
    }
    if raw.time is not None:
        arrays["times"] = raw.time[keep][order]
    return arrays


def core(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """Return indices of the interactions in the k-core: the largest subset where every user and item has k of them."""
    keep = np.arange(len(user))
    while True:
        rows, columns = user[keep], item[keep]
        enough = (np.bincount(rows)[rows] >= k) & (np.bincount(columns)[columns] >= k)
        if enough.all():
            return keep
        keep = keep[enough]


def renumber(codes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the ids in use from 0 in ascending order; returns the new numbers [N] and their ids."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(ids)))
    used = used[np.argsort(ids[used], kind="stable")]
    number = np.empty(len(ids), np.int64)
    number[used] = np.arange(len(used))
    return number[codes], ids[used]
