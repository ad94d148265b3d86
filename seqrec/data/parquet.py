"""Parquet into raw data; needs pyarrow."""

import io

import numpy as np
import pandas as pd

from seqrec.data.columns import Columns
from seqrec.data.delimited import ISO, is_number, kept, seconds
from seqrec.data.gathered import Gathered
from seqrec.data.raw import RawFile, progress
from seqrec.utils.errors import UserError

PARQUET = b"PAR1"
# Rows that are always allowed, and rows per byte: real ids take more than two bits.
FEW_ROWS, ROWS_A_BYTE = 2**26, 4
AT_ONCE = 2**20  # rows


def read_parquet(file: RawFile, columns: Columns, gathered: Gathered) -> None:
    """Add the selected columns of a Parquet file, a batch of rows at a time; raises UserError that names the first row at fault."""
    try:
        from pyarrow import ArrowException, Table, parquet, schema, string, types
    except ImportError:
        raise UserError(f"{file} is a Parquet file, which needs pyarrow: pip install 'seqrec[parquet]'") from None
    try:
        # one that is packed once more has to be in memory, for a Parquet file is read from its end
        source = str(file.path) if file.plain else io.BytesIO(file.read())
        size = file.path.stat().st_size if file.plain else len(source.getbuffer())
        with parquet.ParquetFile(source, pre_buffer=False) as table:
            rows = table.metadata.num_rows
            if rows > max(FEW_ROWS, ROWS_A_BYTE * size):
                raise UserError(f"{file} claims {rows:,} rows in {size:,} bytes; get another file")
            names = table.schema_arrow.names
            name_of = {column: names[index] for column, index in columns.located(names, file).items()}
            for name in name_of.values():
                if types.is_nested(table.schema_arrow.field(name).type):
                    raise UserError(
                        f"{file}: the column '{name}' holds lists or records; a column of single values is needed"
                    )
            batches = _Batches(columns, name_of, gathered, file)
            with progress(file.path.name, rows, " rows") as bar:
                for batch in table.iter_batches(AT_ONCE, columns=list(dict.fromkeys(name_of.values()))):
                    # some writers do not say that bytes are text
                    fields = [each.with_type(string()) if types.is_binary(each.type) else each for each in batch.schema]
                    whole = Table.from_batches([batch]).cast(schema(fields))
                    batches.add(whole.to_pandas(integer_object_nulls=True))
                    bar.update(len(batch))
    except (ArrowException, OSError) as error:
        raise UserError(
            f"{file} is damaged, or no Parquet file of text and numbers ({error}); get the file again"
        ) from error


class _Batches:
    """The batches of a file, one after the other: whether times are dates is told by the first row."""

    def __init__(self, columns: Columns, name_of: dict[str | int, str], gathered: Gathered, file: RawFile):
        self.roles = {role: name_of[column] for role, column in columns.roles.items()}
        self.keep = {name_of[column]: values for column, values in columns.keep.items()}
        self.gathered, self.file, self.rows = gathered, file, 0
        self.dates, self.written, self.unit = None, columns.time_format or ISO, columns.units_per_second

    def add(self, frame: pd.DataFrame) -> None:
        """Add the rows of a batch that are to be kept."""
        frame.index = np.arange(self.rows + 1, self.rows + len(frame) + 1)  # the rows as they are named in messages
        self.rows += len(frame)
        frame = frame[kept(frame, self.keep)]
        roles = {role: frame[name] for role, name in self.roles.items()}
        for column in roles.values():
            self._refuse(column.isna(), "is empty", column)
        time = self._times(roles["time"]) if "time" in roles else None
        rating = self._numbers(roles["rating"]) if "rating" in roles else None
        if not self.gathered.add(roles["user"], roles["item"], time, rating):
            for role in ("user", "item"):
                ids = roles[role].astype(str).str
                self._refuse(ids.strip() == "", "is empty", roles[role])
                self._refuse(ids.endswith("\0"), "ends in a zero byte", roles[role])

    def _times(self, column: pd.Series) -> np.ndarray:
        if self.dates is None and len(column):
            text = pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
            self.dates = text and (self.written != ISO or not is_number(str(column.iloc[0])))
        if pd.api.types.is_datetime64_any_dtype(column) or self.dates:
            moments = seconds(column, self.written)
            self._refuse(np.isnan(moments), "holds no date", column)
            return moments
        return self._numbers(column) / self.unit

    def _numbers(self, column: pd.Series) -> np.ndarray:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        self._refuse(~np.isfinite(numbers), "holds no finite number", column)
        return numbers

    def _refuse(self, wrong: np.ndarray | pd.Series, problem: str, column: pd.Series) -> None:
        wrong = np.asarray(wrong, bool)
        if wrong.any():
            row = column.index[wrong.argmax()]
            raise UserError(f"{self.file}, row {row}: the column '{column.name}' {problem}; correct or remove the row")
