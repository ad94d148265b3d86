"""A CSV, TSV or Parquet table whose columns are given in the configuration."""

import functools
import itertools
from collections import Counter
from dataclasses import replace

from seqrec.data.columns import Columns
from seqrec.data.delimited import BLANKS, ISO, Layout, is_date, is_number, lines_of, read_delimited
from seqrec.data.gathered import Gathered
from seqrec.data.parquet import PARQUET, read_parquet
from seqrec.data.raw import RawFile
from seqrec.utils.errors import UserError

SEPARATORS = (",", "\t", ";", "|", BLANKS)
SPELLINGS = {r"\t": "\t", "tab": "\t", " ": BLANKS}
NAMED = {",": "commas", "\t": "tabs", BLANKS: "blanks"}
LOOKED_AT = 20  # lines from which the layout is detected


def read_table(file: RawFile, columns: Columns, gathered: Gathered) -> None:
    """Add CSV, TSV or Parquet; time is a number or an ISO 8601 date. Raises UserError."""
    with file.open() as stream:
        if stream.read(len(PARQUET)) == PARQUET:
            read_parquet(file, columns, gathered)
            return
    blocks = functools.partial(file.text_blocks, columns.quotes)
    content = next(blocks())
    columns = replace(columns, **{role: name.strip() for role, name in columns.roles.items() if isinstance(name, str)})
    separator = _separator(columns.separator) or _found_separator(content, columns, file)
    rows = _first_rows(content, separator, columns, file)
    header = _has_header(rows, columns) if columns.header == "auto" else columns.header
    indices = columns.located(rows[0], file, header)
    names = _distinct(rows[0]) if header else [str(number) for number in range(len(rows[0]))]
    first = dict(enumerate(rows[header] if len(rows) > header else []))
    dates = columns.time_format
    if dates is None and columns.time is not None and not is_number(first.get(indices[columns.time], "0")):
        dates = ISO
    roles = {role: names[indices[column]] for role, column in columns.roles.items()}
    keep = {names[indices[column]]: values for column, values in columns.keep.items()}
    how = {"separator": separator, "header": header, "quoted": columns.quotes, "keep": keep}
    layout = Layout(names, **roles, **how, dates=dates, units_per_second=columns.units_per_second)
    named = ", ".join(f"{role} {name}" for role, name in roles.items())
    found = f"{file.encoding}, {NAMED.get(separator, repr(separator))} between columns, {'a' if header else 'no'} header line, {named}"
    gathered.found.append(found)
    read_delimited(blocks, layout, gathered, file)


def _separator(given: str | None) -> str | None:
    separator = SPELLINGS.get(given, given)
    if separator is not None and separator != BLANKS and len(separator.encode()) != 1:
        raise UserError(f"dataset.separator={given}: must be one character, or null to find it from the first lines")
    return separator


def _found_separator(content: bytes, columns: Columns, file: RawFile) -> str:
    """Return the separator that gives most of the selected columns, then equally wide lines, then most columns."""

    def merit(separator: str) -> tuple[int, ...]:
        try:
            first, *others = _first_rows(content, separator, columns, file)
        except UserError:  # an unbalanced quote, or no columns at all
            return (-1,)
        there = sum(
            column < len(first) if isinstance(column, int) else column in first for column in columns.wanted.values()
        )
        regular = all(len(row) == len(first) for row in others)
        return there, regular, len(first) > 1 and separator != BLANKS, len(first)

    return max(SEPARATORS, key=merit)


def _first_rows(content: bytes, separator: str, columns: Columns, file: RawFile) -> list[list[str]]:
    layout = Layout([], "", "", separator=separator, quoted=columns.quotes)
    rows = [[word.strip() for word in row] for _, row in itertools.islice(lines_of([content], layout, file), LOOKED_AT)]
    if not rows:
        raise UserError(f"{file} has nothing but empty lines; get the file again")
    return rows


def _has_header(rows: list[list[str]], columns: Columns) -> bool:
    """Return whether the first line is a header: it is if a column is selected by its name.

    Otherwise it is if it has no number (or date) in one of the selected columns where all lines below have one.
    """
    if not columns.by_number:
        return True

    def readable(row: list[str], role: str, column: int) -> bool:
        return is_number(row[column]) or (role == "time" and is_date(row[column], columns.time_format or ISO))

    first, *others = [row for row in rows if len(row) == len(rows[0])]
    return any(
        bool(others) and not readable(first, *pair) and all(readable(row, *pair) for row in others)
        for pair in columns.roles.items()
        if pair[1] < len(first)
    )


def _distinct(names: list[str]) -> list[str]:
    """Return the names, with the column number appended to each that occurs twice."""
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]
