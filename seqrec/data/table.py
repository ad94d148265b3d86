"""A table of the user's own, CSV, TSV or Parquet, whose columns are named in the configuration."""

import io
import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from seqrec.data.delimited import BLANKS, Layout, is_number, lines_of, numbered, read_delimited, seconds
from seqrec.data.raw import Raw, RawFile
from seqrec.data.text import blank, refuse_binary, typed_ids
from seqrec.utils.errors import UserError, nearest

PARQUET = b"PAR1"
SEPARATORS = (",", "\t", ";", "|", BLANKS)
SPELLINGS = {r"\t": "\t", "tab": "\t", " ": BLANKS}


@dataclass(frozen=True)
class Columns:
    """Names of the wanted columns; a separator of None is found from the header."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    separator: str | None = None

    @property
    def wanted(self) -> dict[str, str]:
        """Role -> name of each column that the configuration names."""
        roles = {role: getattr(self, role) for role in ("user", "item", "time", "rating")}
        return {role: name for role, name in roles.items() if name is not None}

    def check(self, names: list[str], where: object) -> None:
        """Raise UserError if a needed column is not named in the configuration, or a named one not in the file."""
        there = f"\n  columns of {where}: {', '.join(names)}"
        twice = next((name for name in self.wanted.values() if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{where} has two columns '{twice}': rename one{there}")
        for role in ("user", "item"):
            if role not in self.wanted:
                raise UserError(
                    f"dataset.{role}_column is not set: give the name of the column that holds the {role}{there}"
                )
        for role, name in self.wanted.items():
            if name not in names:
                raise UserError(f"dataset.{role}_column={name}: no such column{nearest(name, names)}{there}")


def read_table(file: RawFile, columns: Columns) -> Raw:
    """Read CSV, TSV (with a header) or Parquet; time is a number or an ISO 8601 date. Raises UserError."""
    content = file.read()
    if content.startswith(PARQUET):
        return _read_parquet(content, columns, file)
    refuse_binary(content, file)
    columns = replace(columns, **{role: name.strip() for role, name in columns.wanted.items()})
    separator = _separator(columns.separator) or _found_separator(content, columns, file)
    names, *rows = _first_rows(content, separator, file)
    columns.check(names, file)
    first = dict(zip(names, rows[0], strict=False)) if rows else {}
    dates = columns.time is not None and not is_number(first.get(columns.time, "0"))
    layout = Layout(names, **columns.wanted, separator=separator, header=True, quoted=True, dates=dates)
    return read_delimited(content, layout, file)


def _separator(given: str | None) -> str | None:
    separator = SPELLINGS.get(given, given)
    if separator is not None and separator != BLANKS and len(separator.encode()) != 1:
        raise UserError(f"dataset.separator={given}: must be one character, or null to find it from the header")
    return separator


def _found_separator(content: bytes, columns: Columns, file: RawFile) -> str:
    """Return the separator that makes the most wanted names appear in the header, then the most columns."""

    def merit(separator: str) -> tuple[int, int]:
        names = _first_rows(content, separator, file)[0]
        return len(set(names) & set(columns.wanted.values())), len(names)

    return max(SEPARATORS, key=merit)


def _first_rows(content: bytes, separator: str, file: RawFile) -> list[list[str]]:
    layout = Layout([], "", "", separator=separator, quoted=True)
    return [[word.strip() for word in row] for _, row in itertools.islice(lines_of(content, layout, file), 2)]


def _read_parquet(content: bytes, columns: Columns, file: RawFile) -> Raw:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        raise UserError(f"{file} is a Parquet file, which needs pyarrow: pip install 'seqrec[parquet]'") from None
    try:
        table = parquet.ParquetFile(io.BytesIO(content))
        columns.check(table.schema_arrow.names, file)
        frame = table.read(columns=list(columns.wanted.values())).to_pandas()
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole Parquet file ({error}); get the file again") from error
    if frame.empty:
        raise UserError(f"{file} has no rows")
    for name in columns.wanted.values():
        if types.is_nested(table.schema_arrow.field(name).type):
            raise UserError(f"{file}: the column '{name}' holds lists or records; a column of single values is needed")
        _refuse(frame[name].isna().to_numpy(), f"the column '{name}' is empty", file)
    user, user_ids = numbered(frame[columns.user])
    item, item_ids = numbered(frame[columns.item])
    for name, number, ids in ((columns.user, user, user_ids), (columns.item, item, item_ids)):
        _refuse(blank(ids)[number], f"the column '{name}' is empty", file)
    time = None if columns.time is None else _times(frame[columns.time], file)
    rating = None if columns.rating is None else _numbers(frame[columns.rating], file)
    return Raw(user, item, typed_ids(user_ids), typed_ids(item_ids), time, rating)


def _times(column: pd.Series, file: RawFile) -> np.ndarray:
    text = pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
    if pd.api.types.is_datetime64_any_dtype(column) or (text and not is_number(str(column.iloc[0]))):
        moments = seconds(column)
        _refuse(np.isnan(moments), f"the column '{column.name}' holds no date", file)
        return moments
    return _numbers(column, file)


def _numbers(column: pd.Series, file: RawFile) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    _refuse(~np.isfinite(numbers), f"the column '{column.name}' holds no finite number", file)
    return numbers


def _refuse(rows: np.ndarray, problem: str, file: RawFile) -> None:
    if rows.any():
        raise UserError(f"{file}, row {rows.argmax() + 1}: {problem}; correct or remove the row")
