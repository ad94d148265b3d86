"""Delimited text into raw data: fast for whole columns, line by line to find the line at fault."""

import csv
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd

from seqrec.data.gathered import Gathered
from seqrec.data.text import fault, words
from seqrec.utils.errors import UserError

BLANKS = r"\s+"  # columns are separated by any run of blanks and tabs
ISO = "ISO8601"
EPOCH = pd.Timestamp(0, tz="UTC")


@dataclass(frozen=True)
class Layout:
    """The columns of a delimited text, and which of them are selected."""

    names: list[str]  # of all columns
    user: str
    item: str
    time: str | None = None
    rating: str | None = None
    separator: str = "\t"  # one character, or BLANKS
    header: bool = False  # the first line holds the names
    quoted: bool = False  # "..." may hold separators and line ends
    dates: str | None = None  # format of a time that is no number: ISO8601, or one of strptime
    units_per_second: float = 1  # of a time that is a number
    keep: dict[str, list[str]] = field(default_factory=dict)  # column -> values; rows with others are left out


def read_delimited(blocks: Callable[[], Iterable[bytes]], layout: Layout, gathered: Gathered, where: object) -> None:
    """Add delimited text in UTF-8, which `blocks()` yields from its beginning, whole lines at a time.

    Raises UserError that names the first line at fault.
    """
    blame = functools.cache(lambda: check_lines(blocks(), layout, where))
    kinds = dict.fromkeys((*layout.keep, layout.user, layout.item), str)
    kinds |= {layout.rating: np.float64, layout.time: str if layout.dates else np.float64}
    kinds = {name: kind for name, kind in kinds.items() if name is not None}
    of_block = layout
    for content in blocks():
        frame = parse(content, of_block, kinds, where, blame)
        of_block = replace(layout, header=False)
        frame = frame[kept(frame, layout.keep)]
        time = None
        if layout.time is not None:
            time = frame[layout.time]
            if layout.dates:
                time = seconds(time, layout.dates)
            else:
                time = time.to_numpy(np.float64) / layout.units_per_second
        rating = None if layout.rating is None else frame[layout.rating].to_numpy(np.float64)
        finite = all(np.isfinite(column).all() for column in (time, rating) if column is not None)
        if not gathered.add(frame[layout.user], frame[layout.item], time, rating) or not finite:
            blame()
            raise UserError(f"{where}: an id is empty, or a number is not finite; correct or remove the line")


def parse(
    content: bytes, layout: Layout, kinds: dict[str, object], where: object, blame: Callable[[], None]
) -> pd.DataFrame:
    """Return the columns that `kinds` names, a row for each line; raises UserError that names the first line at fault.

    `blame` checks the lines of the whole file one by one.
    """
    if not _regular(content, layout):
        blame()
    try:
        return pd.read_csv(
            io.BytesIO(content),
            sep=layout.separator,
            header=0 if layout.header else None,
            names=layout.names,
            usecols=list(kinds),
            dtype=kinds,
            na_filter=False,
            quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
            skipinitialspace=layout.separator != BLANKS,
            low_memory=False,
            engine="c",
        )
    except ValueError as error:
        blame()
        quotes = "; dataset.quotes=false takes quotes as letters" if layout.quoted else ""
        raise UserError(f"{where} cannot be read: {error}{quotes}") from error


def kept(frame: pd.DataFrame, keep: dict[str, list[str]]) -> np.ndarray:
    """Return which rows have one of the values, written as text, in every column of `keep`, [N] bool."""
    rows = np.ones(len(frame), bool)
    for name, values in keep.items():
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            values = pd.to_numeric(pd.Series(values), errors="coerce").dropna()
        else:
            column = column.astype(str)
        rows &= column.isin(values).to_numpy(bool)
    return rows


def seconds(column: pd.Series, written: str) -> np.ndarray:
    """Return dates (datetime, or text in the format ISO8601 or one of strptime) as unix seconds; NaN for no date.

    They are in UTC unless they have a zone.
    """
    moments = pd.to_datetime(column, format=written, utc=True, errors="coerce")
    return ((moments - EPOCH) / pd.Timedelta(seconds=1)).to_numpy(np.float64)


def _regular(content: bytes, layout: Layout) -> bool:
    """Return whether all lines seem to have all columns; pandas would silently fill or truncate others."""
    if layout.separator == BLANKS:
        count = np.bincount(words(content)[2])
        return bool(np.isin(count, (0, len(layout.names))).all())
    byte = np.frombuffer(content, np.uint8)
    mark, line_end = byte == ord(layout.separator), byte == ord("\n")
    if layout.quoted and b'"' in content:
        outside = ~np.bitwise_xor.accumulate(byte == ord('"'))
        mark, line_end = mark & outside, line_end & outside
    line_end = np.flatnonzero(line_end)
    if not content.endswith(b"\n"):
        line_end = np.append(line_end, len(content))
    count = np.diff(np.searchsorted(np.flatnonzero(mark), line_end), prepend=0)
    length = np.diff(line_end, prepend=-1) - 1
    blank = (count == 0) & (length <= 1)  # nothing, or a carriage return
    return bool((blank | (count == len(layout.names) - 1)).all())


def check_lines(blocks: Iterable[bytes], layout: Layout, where: object) -> None:
    """Check the lines one by one and raise UserError for the first one at fault; return if there is none."""
    rows = lines_of(blocks, layout, where)
    if layout.header:
        next(rows)
    for line, row in rows:
        problem = _problem(row, layout)
        if problem:
            raise fault(where, line, problem)


def lines_of(blocks: Iterable[bytes], layout: Layout, where: object) -> Iterator[tuple[int, list[str]]]:
    """Yield (line from 1, fields) for each line that is not blank; raises UserError where quotes never end."""
    text = chain.from_iterable(io.TextIOWrapper(io.BytesIO(block), encoding="utf-8", newline="") for block in blocks)
    if layout.separator == BLANKS:
        yield from ((number, line.split()) for number, line in enumerate(text, 1) if line.strip())
        return
    quoting = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    rows = csv.reader(text, delimiter=layout.separator, quoting=quoting, skipinitialspace=True)
    line = 1
    try:
        for row in rows:
            if len(row) > 1 or (row and row[0].strip()):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise fault(where, line, str(error)) from error


def _problem(row: list[str], layout: Layout) -> str | None:
    if len(row) != len(layout.names):
        return f"{len(row)} columns, where {len(layout.names)} are expected ({', '.join(layout.names)})"
    fields = dict(zip(layout.names, row, strict=True))
    if any(fields[name] not in values for name, values in layout.keep.items()):
        return None
    for name in (layout.user, layout.item, layout.time, layout.rating):
        if name is not None and not fields[name].strip():
            return f"the column '{name}' is empty"
    if layout.rating is not None and not is_number(fields[layout.rating]):
        return f"{layout.rating} '{fields[layout.rating]}' is not a finite number"
    if layout.time is None:
        return None
    moment = fields[layout.time]
    if layout.dates and not is_date(moment, layout.dates):
        if layout.dates != ISO:
            return f"{layout.time} '{moment}' is not written like dataset.time_format='{layout.dates}'"
        return (
            f"{layout.time} '{moment}' is no ISO 8601 date like 2014-07-18 09:30:00 (nor are all of them numbers); "
            "dataset.time_format describes another way of writing it"
        )
    if not layout.dates and not is_number(moment):
        return f"{layout.time} '{moment}' is not a finite number"
    return None


def is_date(text: str, written: str) -> bool:
    """Return whether the text is a date in a format, ISO8601 or one of strptime."""
    return not pd.isna(pd.to_datetime(text, format=written, utc=True, errors="coerce"))


def is_number(text: str) -> bool:
    """Return whether pandas reads the text as a finite number."""
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False
