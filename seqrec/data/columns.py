"""Which columns of a table, or fields of a record, the configuration selects, by name or by number."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from seqrec.utils.errors import UserError, nearest, one_of

ROLES = ("user", "item", "time", "rating")
UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}  # of a time that is a number, in a second


@dataclass(frozen=True)
class Columns:
    """The selected columns, each by its name or by its number from 0; a separator of None is detected from the first lines.

    `keep` gives the values to keep of further columns. `time_format` is that of strptime, for a time which is neither a
    number nor an ISO 8601 date. Raises UserError for a value that makes no sense.
    """

    user: str | int | None = None
    item: str | int | None = None
    time: str | int | None = None
    rating: str | int | None = None
    separator: str | None = None
    header: bool | str = "auto"
    quotes: bool = True
    keep: Mapping[str | int, list[str]] = field(default_factory=dict)
    time_format: str | None = None
    time_unit: str = "s"

    def __post_init__(self):
        if self.header not in (True, False, "auto"):
            raise UserError(f"dataset.header={self.header}: must be true, false or auto")
        one_of("dataset.time_unit", self.time_unit, tuple(UNITS))
        if self.time_format is not None and "%" not in self.time_format:
            raise UserError(f"dataset.time_format={self.time_format}: must be null or like '%d/%m/%Y %H:%M'")
        for key, column in self.wanted.items():
            if type(column) not in (int, str) or (type(column) is int and column < 0):
                raise UserError(f"{key}={column}: must be the name of a column or its number, from 0")

    @property
    def roles(self) -> dict[str, str | int]:
        """Role (user, item, time, rating) -> column, of those that the configuration sets."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

    @property
    def units_per_second(self) -> float:
        """Units of a time that is a number in a second: the quotient of a whole second is exact."""
        return UNITS[self.time_unit]

    @property
    def wanted(self) -> dict[str, str | int]:
        """Key of the configuration -> column, of all that must be in the file."""
        return {f"dataset.{role}_column": column for role, column in self.roles.items()} | {
            f"dataset.keep.{column}": column for column in self.keep
        }

    @property
    def by_number(self) -> bool:
        """Whether all selected columns, and at least one, are given by number."""
        return bool(self.wanted) and all(isinstance(column, int) for column in self.wanted.values())

    def check_needed(self, there: str = "") -> None:
        """Raise UserError if user or item is not set; `there` lists the columns of the file."""
        for role in ("user", "item"):
            if getattr(self, role) is None:
                raise UserError(
                    f"dataset.{role}_column is not set: give the name or number of the column that holds the {role}{there}"
                )

    def located(self, names: list[str], where: object, header: bool = True) -> dict[str | int, int]:
        """Return the index of each selected column among those of a file; raises UserError for one that does not exist.

        Without `header` the names are only the first line of the data.
        """
        listed = " ".join(", ".join(names).split())
        there = f"\n  {'columns' if header else 'first line'} of {where}: {listed[:500]}"
        self.check_needed(there)
        indices = {}
        for key, column in self.wanted.items():
            if isinstance(column, int):
                if column >= len(names):
                    raise UserError(f"{key}={column}: there are {len(names)} columns, numbered from 0{there}")
                indices[column] = column
            elif not header:
                raise UserError(f"{key}={column}: without a header line columns have numbers, from 0{there}")
            elif names.count(column) != 1:
                if column in names:
                    raise UserError(f"{where} has two columns '{column}': give the number of one, from 0{there}")
                raise UserError(f"{key}={column}: no such column{nearest(column, names)}{there}")
            else:
                indices[column] = names.index(column)
        return indices
