"""Records, one per line: JSON objects or Python literals with named fields."""

import ast
import json
import math
import warnings
from array import array
from datetime import UTC, datetime

import numpy as np

from seqrec.data.columns import Columns
from seqrec.data.delimited import is_number
from seqrec.data.gathered import Gathered
from seqrec.data.raw import RawFile
from seqrec.data.text import fault
from seqrec.utils.errors import UserError

AT_ONCE = 2**18  # records that are kept as Python objects
AMAZON = Columns("reviewerID", "asin", "unixReviewTime", "overall")


def read_amazon_json(file: RawFile, gathered: Gathered) -> None:
    """Add Amazon reviews, one JSON object per line: reviewerID, asin, overall, unixReviewTime; the rest is ignored."""
    read_records(file, AMAZON, gathered)


def read_records(file: RawFile, columns: Columns, gathered: Gathered) -> None:
    """Add one JSON object, or one Python literal of a dictionary, per line; time is a number or an ISO 8601 date."""
    # A loop over lines: json.loads takes most of the time, and is faster here than pandas with its columns of text.
    columns.check_needed()
    if any(isinstance(column, int) for column in columns.wanted.values()):
        raise UserError("dataset.reader=json: the fields of records have names; give names instead of numbers")
    user, item, time, rating = [], [], array("d"), array("d")
    dates = None

    def flush() -> None:
        numbers = (
            None if column is None else np.array(values)
            for column, values in ((columns.time, time), (columns.rating, rating))
        )
        gathered.add(np.array(user, object), np.array(item, object), *numbers)
        for values in (user, item, time, rating):
            del values[:]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of backslashes in the text of a review
        for number, line in enumerate(file.lines(), 1):
            if line.isspace():
                continue
            record = _record(line, file, number)
            if any(str(record.get(name)) not in values for name, values in columns.keep.items()):
                continue
            user.append(_identity(record, columns.user, file, number))
            item.append(_identity(record, columns.item, file, number))
            if columns.time is not None:
                value = _field(record, columns.time, file, number)
                if dates is None:
                    dates = columns.time_format is not None or not _finite(value)
                if dates:
                    time.append(_date(value, columns.time, columns.time_format, file, number))
                else:
                    time.append(_number(value, columns.time, file, number) / columns.units_per_second)
            if columns.rating is not None:
                value = _field(record, columns.rating, file, number)
                rating.append(_number(value, columns.rating, file, number))
            if len(user) == AT_ONCE:
                flush()
    flush()


def _record(line: bytes, file: RawFile, number: int) -> dict:
    """Return the dictionary of a line."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise fault(file, number, f"byte 0x{line[error.start]:02x} is not UTF-8 (see dataset.encoding)") from None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(text.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            record = None
    if not isinstance(record, dict):
        raise fault(file, number, f"no JSON object (or Python dictionary) by itself: {text[:40].strip()}")
    return record


def _field(record: dict, name: str, file: RawFile, line: int):
    value = record.get(name)
    if value is None or value == "":
        raise fault(file, line, f"no field '{name}'; there are {', '.join(map(str, record))[:80]}")
    return value


def _identity(record: dict, name: str, file: RawFile, line: int) -> str:
    value = _field(record, name, file, line)
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise fault(file, line, f"{name} {value!r} is no id: text or a whole number is needed")
    if value.endswith("\0") or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise fault(file, line, f"{name} {value!r} ends in a zero byte, or has half a character: ids are whole text")
    return value


def _finite(value: object) -> bool:
    if isinstance(value, str):
        return is_number(value)
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _number(value: object, name: str, file: RawFile, line: int) -> float:
    if not _finite(value):
        raise fault(file, line, f"{name} {value!r:.40} is not a finite number")
    return float(value)


def _date(value: object, name: str, written: str | None, file: RawFile, line: int) -> float:
    try:
        moment = datetime.fromisoformat(value) if written is None else datetime.strptime(value, written)
    except (TypeError, ValueError):
        like = "neither a number nor a date like 2014-07-18 09:30:00" if written is None else f"no date like {written}"
        raise fault(file, line, f"{name} {value!r:.40} is {like} (see dataset.time_format)") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
