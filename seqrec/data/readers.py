"""Readers: one per file format; each adds the interactions of a raw file, a block at a time."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import numpy as np

from seqrec.data.columns import Columns
from seqrec.data.delimited import BLANKS, Layout, read_delimited
from seqrec.data.gathered import Gathered, Raw
from seqrec.data.mind import read_mind
from seqrec.data.raw import RawFile, RawFolder
from seqrec.data.records import read_amazon_json, read_records
from seqrec.data.table import read_table
from seqrec.data.text import fault, words
from seqrec.utils.errors import UserError

PAIRS = Layout(["user", "item"], "user", "item", separator=BLANKS)
MOVIELENS = Layout(["user", "item", "rating", "timestamp"], "user", "item", "timestamp", "rating", separator="\t")
AMAZON = replace(MOVIELENS, separator=",")
LONGEST_ID = 18  # digits that always fit into int64
WHOLE = re.compile(rf"-?[0-9]{{1,{LONGEST_ID}}}")


def read_sequence(file: RawFile, gathered: Gathered) -> None:
    """Add `user item item ...`, one user or session a line, oldest first; ids are non-negative integers.

    Lines of the same user are joined in file order.
    """
    for content in file.text_blocks():
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        begin, end, line = words(content)
        first = np.diff(line, prepend=-1) > 0
        alone = first & np.append(first[1:], True)
        byte = np.frombuffer(content, np.uint8)
        digits = np.count_nonzero(byte - np.uint8(ord("0")) < 10)
        if digits < (end - begin).sum() or (end - begin).max() > LONGEST_ID or alone.any():
            _blame_sequence(file)
        ids = np.fromstring(content, dtype=np.int64, sep=" ")
        per_line = np.diff(np.flatnonzero(first), append=len(ids)) - 1
        gathered.add(np.repeat(ids[first], per_line), ids[~first])


def _blame_sequence(file: RawFile) -> None:
    lines = chain.from_iterable(block.splitlines() for block in file.text_blocks())
    for number, line in enumerate(lines, 1):
        row = line.split()
        for word in row:
            if not word.isdigit():
                raise fault(file, number, f"'{word.decode()}' is not a non-negative integer")
            if len(word) > LONGEST_ID:
                raise fault(file, number, f"the id {word.decode()} has more than {LONGEST_ID} digits")
        if len(row) == 1:
            raise fault(file, number, f"user {row[0].decode()} has no items")
    raise AssertionError("a sequence file without a line at fault")


def read_padded(file: RawFile, gathered: Gathered) -> None:
    """Add `-1,-1,item,item`, a user a line, oldest first, filled up at its left with -1 or 0, as AutoSAM's authors publish Yelp.

    Users are numbered by line, from 1.
    """
    before = 0
    for content in filter(bytes.strip, file.text_blocks()):
        try:
            rows = np.loadtxt(io.BytesIO(content), np.int64, delimiter=",", ndmin=2, comments=None)
        except ValueError:
            rows = np.zeros((1, 1), np.int64)  # at fault too
        real = rows > 0
        if (rows < -1).any() or not real[:, -1:].all() or (real[:, :-1] > real[:, 1:]).any():
            _blame_padded(file)
        gathered.add(before + 1 + real.nonzero()[0], rows[real])
        before += len(rows)


def _blame_padded(file: RawFile) -> None:
    lines = chain.from_iterable(block.splitlines() for block in file.text_blocks())
    width = 0
    for number, line in enumerate(lines, 1):
        row = line.decode().split(",") if line else []
        width = width or len(row)
        if len(row) not in (0, width):
            raise fault(file, number, f"{len(row)} columns, where {width} are expected as in the first line")
        for word in map(str.strip, row):
            if not WHOLE.fullmatch(word) or int(word) < -1:
                raise fault(file, number, f"'{word}' is neither an item, an integer above 0, nor -1 or 0 for padding")
        real = [int(word) > 0 for word in row]
        if real != sorted(real) or (row and not real[-1]):
            raise fault(file, number, "padding (-1 or 0) belongs to the left of the user's items")
    raise AssertionError("a padded file without a line at fault")


def read_pairs(file: RawFile, gathered: Gathered) -> None:
    """Add `user item` a line; the order in the file is the order in time."""
    read_delimited(file.text_blocks, PAIRS, gathered, file)


def read_movielens(file: RawFile, gathered: Gathered) -> None:
    """Add `user item rating timestamp` a line, separated by tabs (u.data) or `::` (ratings.dat), without header."""
    read_delimited(lambda: (block.replace(b"::", b"\t") for block in file.text_blocks()), MOVIELENS, gathered, file)


def read_amazon_csv(file: RawFile, gathered: Gathered) -> None:
    """Add `user,item,rating,timestamp` a line, without header."""
    read_delimited(file.text_blocks, AMAZON, gathered, file)


def read_recbole(file: RawFile, gathered: Gathered) -> None:
    """Add RecBole's atomic file: tabs, a header like `user_id:token item_id:token rating:float timestamp:float`."""
    header = next(file.text_blocks()).lstrip().split(b"\n", 1)[0].decode().strip("\r").split("\t")
    for name in header:
        if ":" not in name:
            problem = (
                f"'{name}' has no type, as in user_id:token, item_id:token, timestamp:float (or take reader=table)"
            )
            raise fault(file, 1, problem)
    names = [name.split(":")[0] for name in header]
    for name in ("user_id", "item_id"):
        if name not in names:
            raise UserError(f"{file} has no column '{name}'; its columns: {', '.join(names)}")
    time, rating = (name if name in names else None for name in ("timestamp", "rating"))
    layout = Layout(names, "user_id", "item_id", time, rating, header=True)
    read_delimited(file.text_blocks, layout, gathered, file)


READERS: dict[str, Callable[[RawFile, Gathered], None]] = {
    "sequence": read_sequence,
    "padded": read_padded,
    "pairs": read_pairs,
    "movielens": read_movielens,
    "amazon_csv": read_amazon_csv,
    "amazon_json": read_amazon_json,
    "recbole": read_recbole,
    "mind": read_mind,
}
TABLES: dict[str, Callable[[RawFile, Columns, Gathered], None]] = {"table": read_table, "json": read_records}
NAMES = (*READERS, *TABLES)


def read(file: RawFile | RawFolder, reader: str, columns: Columns) -> Raw:
    """Read a file, or the parts of a folder, by the reader's name; `columns` is used by the readers of `TABLES` alone.

    Raises UserError where there is no interaction, or none with the values of `columns.keep`.
    """
    if reader == "mind" and isinstance(file, RawFolder):
        raise UserError(f"dataset.reader=mind: {file} is a folder; give its file behaviors.tsv")
    gathered = Gathered()
    for part in file.parts:
        if reader in TABLES:
            TABLES[reader](part, columns, gathered)
        else:
            READERS[reader](part, gathered)
    raw = gathered.raw()
    if not len(raw.user):
        wanted = {name: list(values) for name, values in columns.keep.items()}
        raise UserError(
            f"dataset.keep={wanted}: nothing is left of {file}" if wanted else f"{file} has no interactions"
        )
    return raw
