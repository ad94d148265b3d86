"""Readers: one per file format, each from a raw file to flat arrays."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from seqrec.data.columns import Columns
from seqrec.data.delimited import BLANKS, Layout, read_delimited
from seqrec.data.mind import read_mind
from seqrec.data.raw import Raw, RawFile, RawFolder, joined
from seqrec.data.records import read_amazon_json, read_records
from seqrec.data.table import read_table
from seqrec.data.text import fault, words
from seqrec.utils.errors import UserError, nearest

PAIRS = Layout(["user", "item"], "user", "item", separator=BLANKS)
MOVIELENS = Layout(["user", "item", "rating", "timestamp"], "user", "item", "timestamp", "rating", separator="\t")
AMAZON = replace(MOVIELENS, separator=",")
LONGEST_ID = 18  # digits that always fit into int64


def read_sequence(file: RawFile) -> Raw:
    """`user item item ...`, one user or session a line, oldest first; ids are non-negative integers.

    Lines of the same user are joined in file order.
    """
    content = file.text().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    begin, end, line = words(content)
    first = np.diff(line, prepend=-1) > 0
    alone = first & np.append(first[1:], True)
    byte = np.frombuffer(content, np.uint8)
    digits = np.count_nonzero(byte - np.uint8(ord("0")) < 10)
    if digits < (end - begin).sum() or (end - begin).max() > LONGEST_ID or alone.any():
        _blame_sequence(content, file)
    ids = np.fromstring(content, dtype=np.int64, sep=" ")
    per_line = np.diff(np.flatnonzero(first), append=len(ids)) - 1
    user, user_ids = pd.factorize(ids[first])
    item, item_ids = pd.factorize(ids[~first])
    return Raw(np.repeat(user, per_line), item, user_ids, item_ids)


def _blame_sequence(content: bytes, file: RawFile) -> None:
    for number, line in enumerate(content.split(b"\n"), 1):
        row = line.split()
        for word in row:
            if not word.isdigit():
                raise fault(file, number, f"'{word.decode()}' is not a non-negative integer")
            if len(word) > LONGEST_ID:
                raise fault(file, number, f"the id {word.decode()} has more than {LONGEST_ID} digits")
        if len(row) == 1:
            raise fault(file, number, f"user {row[0].decode()} has no items")
    raise AssertionError("a sequence file without a line at fault")


def read_pairs(file: RawFile) -> Raw:
    """`user item` a line; the order in the file is the order in time."""
    return read_delimited(file.text(), PAIRS, file)


def read_movielens(file: RawFile) -> Raw:
    """`user item rating timestamp` a line, separated by tabs (u.data) or `::` (ratings.dat), without header."""
    return read_delimited(file.text().replace(b"::", b"\t"), MOVIELENS, file)


def read_amazon_csv(file: RawFile) -> Raw:
    """`user,item,rating,timestamp` a line, without header."""
    return read_delimited(file.text(), AMAZON, file)


def read_recbole(file: RawFile) -> Raw:
    """RecBole's atomic file: tabs, a header like `user_id:token item_id:token rating:float timestamp:float`."""
    content = file.text()
    header = content.lstrip().split(b"\n", 1)[0].decode().strip("\r").split("\t")
    for name in header:
        if ":" not in name:
            raise fault(
                file,
                1,
                f"'{name}' has no type, as in user_id:token, item_id:token, timestamp:float (or take reader=table)",
            )
    names = [name.split(":")[0] for name in header]
    for name in ("user_id", "item_id"):
        if name not in names:
            raise UserError(f"{file} has no column '{name}'; its columns: {', '.join(names)}")
    time, rating = (name if name in names else None for name in ("timestamp", "rating"))
    return read_delimited(content, Layout(names, "user_id", "item_id", time, rating, header=True), file)


READERS: dict[str, Callable[[RawFile], Raw]] = {
    "sequence": read_sequence,
    "pairs": read_pairs,
    "movielens": read_movielens,
    "amazon_csv": read_amazon_csv,
    "amazon_json": read_amazon_json,
    "recbole": read_recbole,
    "mind": read_mind,
}
TABLES: dict[str, Callable[[RawFile, Columns], Raw]] = {"table": read_table, "json": read_records}
NAMES = (*READERS, *TABLES)


def check_reader(reader: str) -> None:
    """Raise UserError, with the nearest name, unless there is such a reader."""
    if reader not in NAMES:
        raise UserError(
            f"dataset.reader={reader}: no such reader{nearest(str(reader), NAMES)}\n  there are: {', '.join(NAMES)}"
        )


def read(file: RawFile | RawFolder, reader: str, columns: Columns) -> Raw:
    """Read a file, or the parts of a folder, by the reader's name; `columns` is used by the readers of `TABLES` alone.

    Raises UserError where there is no interaction, or none with the values of `columns.keep`.
    """
    if reader == "mind" and isinstance(file, RawFolder):
        raise UserError(f"dataset.reader=mind: {file} is a folder; give its file behaviors.tsv")
    raw = joined([TABLES[reader](part, columns) if reader in TABLES else READERS[reader](part) for part in file.parts])
    if not len(raw.user):
        wanted = {name: list(values) for name, values in columns.keep.items()}
        raise UserError(
            f"dataset.keep={wanted}: nothing is left of {file}" if wanted else f"{file} has no interactions"
        )
    return raw
