"""From raw data to the arrays of a data set: filter, sort by user and time, number from 0 (users) and 1 (items)."""

import logging
from collections.abc import Iterator

import numpy as np

from seqrec.data.gathered import Raw
from seqrec.data.sessions import cut_sessions, repeated
from seqrec.utils.errors import UserError

log = logging.getLogger("seqrec")
AT_ONCE = 2**20  # interactions


def prepare(
    raw: Raw,
    min_rating: float | None,
    k_core: int | None,
    where: object,
    session_minutes: float | None = None,
    drop_repeats: bool = False,
) -> dict[str, np.ndarray]:
    """Return items, offsets, user_ids, item_ids and, where the raw data have them, times: the arrays of `Dataset`; uses `raw` up.

    Interactions rated below `min_rating` are dropped first. A gap of more than `session_minutes` begins a new sequence,
    whose id is that of the user and a number from 1: `ann:2`. With `drop_repeats` an item that follows itself is dropped.
    Then users and items with fewer than `k_core` interactions (including repeats) are dropped, until none is left.
    Users and items are numbered in ascending order of their raw ids.
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
        _tell(where, "min_rating", len(raw.user), len(keep))
    if session_minutes is not None or drop_repeats:
        raw.take(slice(None) if keep is None else keep)
        raw.take(oldest_first(raw.user, raw.time))
        keep = None
        if session_minutes is not None:
            cut_sessions(raw, session_minutes, where)
        if drop_repeats:
            new = np.flatnonzero(~repeated(raw))
            _tell(where, "drop_repeats", len(raw.user), len(new))
            raw.take(new)
    if k_core is not None:
        found = core(*(column if keep is None else column[keep] for column in (raw.user, raw.item)), k_core)
        _tell(where, "k_core", len(raw.user) if keep is None else len(keep), len(found))
        keep = found if keep is None else keep[found]
        if not len(keep):
            raise UserError(f"dataset.k_core={k_core}: nothing is left of {where}; take a lower k_core")
    # what is done with is let go at once: this is where memory peaks
    if keep is not None:
        raw.take(keep)
    raw.rating = keep = None
    user_ids = renumber(raw.user, raw.user_ids)
    order = oldest_first(raw.user, raw.time)
    counts = sum(np.bincount(part, minlength=len(user_ids)) for part in _parts(raw.user))
    raw.user = None
    item_ids = renumber(raw.item, raw.item_ids)
    raw.item += 1
    arrays = {
        "items": raw.item[order],
        "offsets": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        "user_ids": user_ids,
        "item_ids": np.concatenate((np.zeros(1, item_ids.dtype), item_ids)),  # 0 or "" for the padding
    }
    raw.item = None
    if raw.time is not None:
        arrays["times"] = raw.time[order]
    return arrays


def _tell(where: object, key: str, before: int, after: int) -> None:
    log.info("%s: dataset.%s drops %s of %s interactions", where, key, f"{before - after:,}", f"{before:,}")


def oldest_first(user: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Return the order by user and then by time, that of the file among equal times."""
    order = np.argsort(user, kind="stable")
    if time is None or not any(_late(user, time, order[at : at + AT_ONCE + 1]) for at in range(0, len(order), AT_ONCE)):
        return order
    del order
    return np.lexsort((time, user))


def _late(user: np.ndarray, time: np.ndarray, order: np.ndarray) -> bool:
    """Return whether an interaction is earlier than the one before it of the same user."""
    return bool(((time[order[1:]] < time[order[:-1]]) & (user[order[1:]] == user[order[:-1]])).any())


def core(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """Return indices of the interactions in the k-core: the largest subset where every user and item has k of them."""
    keep = np.arange(len(user))
    while True:
        rows, columns = user[keep], item[keep]
        enough = (np.bincount(rows)[rows] >= k) & (np.bincount(columns)[columns] >= k)
        if enough.all():
            return keep
        keep = keep[enough]


def renumber(codes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Number the ids in use from 0 in ascending order: codes [N] are overwritten; returns their ids."""
    used = np.zeros(len(ids), bool)
    for part in _parts(codes):
        used[part] = True
    used = np.flatnonzero(used)
    used = used[np.argsort(ids[used], kind="stable")]
    number = np.empty(len(ids), np.int32)
    number[used] = np.arange(len(used))
    for part in _parts(codes):
        part[:] = number[part]
    return ids[used]


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of the array, so short that what numpy makes on the way needs little memory."""
    return (array[at : at + AT_ONCE] for at in range(0, len(array), AT_ONCE))
