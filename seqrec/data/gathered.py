"""What readers make of raw files: interactions with numbered ids, gathered a block at a time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqrec.data.text import blank, typed_ids


@dataclass
class Raw:
    """Interactions in file order; ids are numbered, and every id of the two lists occurs at least once."""

    user: np.ndarray  # [N] int32, index into user_ids
    item: np.ndarray  # [N] int32, index into item_ids
    user_ids: np.ndarray  # int64 or str, distinct, in any order
    item_ids: np.ndarray  # int64 or str, distinct, in any order
    time: np.ndarray | None = None  # [N] float64, finite; None: the file's order is the order in time
    rating: np.ndarray | None = None  # [N] float64, finite
    found: str = ""  # what the reader found out by itself, for the log

    def take(self, rows: np.ndarray | slice) -> None:
        """Keep these rows alone, in this order."""
        for name in ("user", "item", "time", "rating"):
            column = getattr(self, name)
            setattr(self, name, None if column is None else column[rows])


class Gathered:
    """The interactions that readers add, a block at a time; ids are numbered in the order of their first appearance."""

    def __init__(self):
        self.users, self.items = {}, {}  # id -> number
        self.columns = {"user": [], "item": [], "time": [], "rating": []}
        self.found = []

    def add(self, user, item, time: np.ndarray | None = None, rating: np.ndarray | None = None) -> bool:
        """Add a block: ids (Series or array) and numbers, [N] each.

        Returns whether all ids consist of more than blanks and end in no zero byte, which arrays of text do not keep.
        """
        if not len(user):
            return True
        of_user, good_users = _numbered(user, self.users)
        of_item, good_items = _numbered(item, self.items)
        for name, values in (("user", of_user), ("item", of_item), ("time", time), ("rating", rating)):
            self.columns[name].append(values)
        return good_users and good_items

    def raw(self) -> Raw:
        """Return all that was added, and forget it."""
        user, user_ids = _with_ids(self._column("user"), self.users)
        item, item_ids = _with_ids(self._column("item"), self.items)
        time, rating = (
            None if any(part is None for part in self.columns[name]) else self._column(name)
            for name in ("time", "rating")
        )
        return Raw(user, item, user_ids, item_ids, time, rating, "; ".join(dict.fromkeys(self.found)))

    def _column(self, name: str) -> np.ndarray:
        blocks = self.columns.pop(name)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int32)


def _numbered(column, numbers: dict) -> tuple[np.ndarray, bool]:
    """Return the number of each id, new ids entered into `numbers`, and whether all new ids are as `Gathered.add` says."""
    codes, distinct = pd.factorize(column)
    known, distinct = len(numbers), np.asarray(distinct, dtype=object)
    of_distinct = np.fromiter((numbers.setdefault(value, len(numbers)) for value in distinct), np.int32, len(distinct))
    new = distinct[of_distinct >= known]
    cut = any(value[-1:] == "\0" for value in new if isinstance(value, str))
    return of_distinct[codes], not (cut or blank(new.astype(str)).any())


def _with_ids(codes: np.ndarray, numbers: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes and their ids, which are integers if all of them are."""
    ids = np.array(list(numbers), dtype=object).astype(str)
    if len(set(map(type, numbers))) > 1:  # 1 in one file is "1" in another
        again, distinct = pd.factorize(ids.astype(object))
        codes, ids = again.astype(np.int32)[codes], distinct.astype(str)
    numbers.clear()
    return codes, typed_ids(ids)
