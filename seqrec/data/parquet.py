"""Parquet into raw data; needs pyarrow."""

import io

import numpy as np
import pandas as pd

from seqrec.data.columns import Columns
from seqrec.data.delimited import is_number, kept, numbered, seconds
from seqrec.data.raw import Raw, RawFile
from seqrec.data.text import blank, typed_ids
from seqrec.utils.errors import UserError

PARQUET = b"PAR1"
FEW_ROWS, ROWS_A_BYTE = (
    2**26,
    4,
)  # rows that are always allowed, and rows per byte: real ids take more than two bits


def read_parquet(content: bytes, columns: Columns, file: RawFile) -> Raw:
    """Read the selected columns of a Parquet file; raises UserError that names the first row at fault."""
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        raise UserError(f"{file} is a Parquet file, which needs pyarrow: pip install 'seqrec[parquet]'") from None
    try:
        table = parquet.ParquetFile(io.BytesIO(content))
        if table.metadata.num_rows > max(FEW_ROWS, ROWS_A_BYTE * len(content)):
            raise UserError(
                f"{file} claims {table.metadata.num_rows:,} rows in {len(content):,} bytes; get another file"
            )
        names = table.schema_arrow.names
        name_of = {column: names[index] for column, index in columns.located(names, file).items()}
        for name in name_of.values():
            if types.is_nested(table.schema_arrow.field(name).type):
                raise UserError(
                    f"{file}: the column '{name}' holds lists or records; a column of single values is needed"
                )
        frame = table.read(columns=list(dict.fromkeys(name_of.values()))).to_pandas()
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole Parquet file ({error}); get the file again") from error
    frame.index = np.arange(1, len(frame) + 1)  # the rows as they are named in messages
    frame = frame[kept(frame, {name_of[column]: values for column, values in columns.keep.items()})]
    roles = {role: frame[name_of[column]] for role, column in columns.roles.items()}
    for column in roles.values():
        _refuse(column.isna().to_numpy(), f"the column '{column.name}' is empty", column, file)
    user, user_ids = numbered(roles["user"])
    item, item_ids = numbered(roles["item"])
    for role, number, ids in (("user", user, user_ids), ("item", item, item_ids)):
        _refuse(blank(ids)[number], f"the column '{roles[role].name}' is empty", roles[role], file)
    time = _times(roles["time"], file) if "time" in roles else None
    rating = _numbers(roles["rating"], file) if "rating" in roles else None
    return Raw(user, item, typed_ids(user_ids), typed_ids(item_ids), time, rating)


def _times(column: pd.Series, file: RawFile) -> np.ndarray:
    text = pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
    if pd.api.types.is_datetime64_any_dtype(column) or (text and len(column) and not is_number(str(column.iloc[0]))):
        moments = seconds(column)
        _refuse(np.isnan(moments), f"the column '{column.name}' holds no date", column, file)
        return moments
    return _numbers(column, file)


def _numbers(column: pd.Series, file: RawFile) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    _refuse(~np.isfinite(numbers), f"the column '{column.name}' holds no finite number", column, file)
    return numbers


def _refuse(wrong: np.ndarray, problem: str, column: pd.Series, file: RawFile) -> None:
    if wrong.any():
        raise UserError(f"{file}, row {column.index[wrong.argmax()]}: {problem}; correct or remove the row")
