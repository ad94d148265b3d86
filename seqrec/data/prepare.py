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
    keep = None  # all
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
        found = core(chosen(raw.user, keep), chosen(raw.item, keep), k_core)
        keep = found if keep is None else keep[found]
        if not len(keep):
            raise UserError(f"dataset.k_core={k_core}: nothing is left of {where}; take a lower k_core")
    user, user_ids = renumber(chosen(raw.user, keep), raw.user_ids)
    order = oldest_first(user, None if raw.time is None else chosen(raw.time, keep))
    arrays = {"offsets": np.concatenate(([0], np.cumsum(np.bincount(user)))).astype(np.int64), "user_ids": user_ids}
    del user
    item, item_ids = renumber(chosen(raw.item, keep), raw.item_ids)
    item += 1
    arrays["items"] = item[order]
    del item
    arrays["item_ids"] = np.concatenate((np.zeros(1, item_ids.dtype), item_ids))  # 0 or "" for the padding
    if raw.time is not None:
        arrays["times"] = chosen(raw.time, keep)[order]
    return arrays


def chosen(column: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """Return the given rows, all of them if None."""
    return column if rows is None else column[rows]


def oldest_first(user: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Return the order by user and then by time, that of the file among equal times."""
    order = np.argsort(user, kind="stable")
    if time is None:
        return order
    in_order = time[order]
    late = in_order[1:] < in_order[:-1]
    late &= user[order[1:]] == user[order[:-1]]
    return np.lexsort((time, user)) if late.any() else order


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
    number = np.empty(len(ids), np.int32)
    number[used] = np.arange(len(used))
    return number[codes], ids[used]
