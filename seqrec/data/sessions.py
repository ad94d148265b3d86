"""Sessions, and items that follow themselves, in raw interactions by user and time."""

import logging

import numpy as np

from seqrec.data.gathered import Raw
from seqrec.utils.errors import UserError

log = logging.getLogger("seqrec")
LATEST = 1e11  # unix seconds, in the year 5138


def cut_sessions(raw: Raw, minutes: float, where: object) -> None:
    """Part the sequence of each user wherever more than `minutes` lie between two interactions; times are in seconds.

    The parts are the users from now on, with the ids `ann:1`, `ann:2`. Raises UserError without times, or
    with times that cannot be seconds.
    """
    if raw.time is None:
        raise UserError(f"dataset.session_minutes={minutes}: {where} has no times; set dataset.time_column")
    middle = np.median(raw.time)
    if middle > LATEST:
        raise UserError(
            f"dataset.session_minutes={minutes}: the times of {where} are no seconds (like {middle:.0f}); "
            "set dataset.time_unit, to ms for milliseconds"
        )
    new_user = np.diff(raw.user, prepend=-1) != 0
    begins = new_user | (np.diff(raw.time, prepend=raw.time[:1]) > 60 * minutes)
    session = np.cumsum(begins, dtype=np.int32) - 1
    first = session[new_user]  # of each user
    owner, number = raw.user[begins], np.arange(len(session[begins]), dtype=np.int32)
    number -= np.repeat(first, np.diff(first, append=len(number)))
    made = f"{len(owner):,} sequences of {len(first):,} users"
    log.info("%s: dataset.session_minutes=%s makes %s", where, minutes, made)
    ids = np.char.add(raw.user_ids[owner].astype(str), ":")
    raw.user, raw.user_ids = session, np.char.add(ids, (number + 1).astype(str))


def repeated(raw: Raw) -> np.ndarray:
    """Return which interactions have the item of the one before them in the same sequence, [N] bool."""
    same = np.zeros(len(raw.user), bool)
    same[1:] = (raw.item[1:] == raw.item[:-1]) & (raw.user[1:] == raw.user[:-1])
    return same
