"""A data set that lies in a file: found, fetched, checked against what is known of it, prepared, kept."""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pooch

from seqrec.data.attributes import attribute_table, read_item_values
from seqrec.data.cache import ATTRIBUTES, Arrays, cache_file, cache_folder, cached, locked
from seqrec.data.columns import Columns
from seqrec.data.dataset import Dataset
from seqrec.data.download import download
from seqrec.data.prepare import prepare
from seqrec.data.raw import RawFile, RawFolder, WithAttributes, open_raw, stamp
from seqrec.data.readers import NAMES, TABLES, read
from seqrec.utils.errors import UserError, one_of, within

log = logging.getLogger("seqrec")
YOUNGER = {"header": "auto", "quotes": True, "keep": [], "encoding": "utf-8", "attribute_columns": []}
YOUNGER |= {"time_format": None, "time_unit": "s", "session_minutes": None, "drop_repeats": False}
COUNTED = ("users", "items", "interactions")
Found = RawFile | RawFolder | WithAttributes


@dataclass(frozen=True)
class FileDataset:
    """A named public file (`file`, looked for in data_dir) or a file of the user's own (`path`).

    `sha256` is that of the file as it lies on the disk, or of the member of a zip archive; `md5` has those that publishers
    state, by the name of the file or archive; `users`, `items` and `interactions` are counts of the file before filters.
    What is None is not checked. Raises UserError for a value that makes no sense.
    """

    name: str
    reader: str
    file: str | list[str] | None = None  # names it may have in data_dir
    member: str | None = None  # its path in a zip archive
    sha256: str | None = None
    md5: dict[str, str] | None = None
    archive_md5: str | None = None  # in configurations of earlier runs, not read
    url: str | None = None  # direct download
    home: str | None = None  # page that tells where to get it
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    min_rating: float | None = None
    k_core: int | None = None
    path: str | None = None
    user_column: str | int | None = None
    item_column: str | int | None = None
    time_column: str | int | None = None
    rating_column: str | int | None = None
    separator: str | None = None
    header: bool | str = "auto"
    quotes: bool = True
    keep: dict[str | int, object] | None = None  # column -> its wanted value or values
    time_format: str | None = None  # of strptime
    time_unit: str = "s"  # of a time that is a number
    session_minutes: float | None = None  # a longer gap begins a new sequence
    drop_repeats: bool = False  # items that follow themselves
    encoding: str = "utf-8"
    attributes: str | None = None  # a JSON file, in data_dir or by its path: item id -> value or list of values
    attribute_columns: list[str | int] | None = None  # columns of the table with values of the item in the row

    def __post_init__(self):
        one_of("dataset.reader", self.reader, NAMES)
        if self.file is not None and not (self._names and all(isinstance(name, str) for name in self._names)):
            raise UserError(
                f"dataset.file={self.file}: must be null, a name or a list of names; "
                "quotes of its own make a name of a number: \"dataset.file='...'\""
            )
        for name in self._names:
            if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(
                    f"dataset.file={name!r}: must be a name below data_dir; a file elsewhere is dataset.path"
                )
        if (self.columns != Columns() or self.attribute_columns) and self.reader not in TABLES:
            raise UserError(
                f"dataset.reader={self.reader} knows its columns: "
                "leave out dataset.*_column, attribute_columns, separator, header, quotes, keep, time_format, time_unit"
            )
        try:
            "".encode(self.encoding)
        except (LookupError, UnicodeError):
            raise UserError(
                f"dataset.encoding={self.encoding}: no such encoding of text; try utf-8, latin-1 or utf-16"
            ) from None
        if not isinstance(self.md5, Mapping | None):
            raise UserError(
                f"dataset.md5={self.md5}: must be null, or a hash by the name of a file: {{clicks.csv: ...}}"
            )
        if self.k_core is not None and self.k_core < 1:
            raise UserError(f"dataset.k_core={self.k_core}: must be null or a whole number above 0")
        if self.session_minutes is not None:
            within("dataset.session_minutes", self.session_minutes, 0)

    @property
    def _names(self) -> list[str]:
        return list(self.file or ()) if isinstance(self.file, list | None) else [self.file]

    @property
    def columns(self) -> Columns:
        """The columns that the readers `table` and `json` look for."""
        roles = (self.user_column, self.item_column, self.time_column, self.rating_column)
        written = (self.time_format, self.time_unit)
        return Columns(*roles, self.separator, self.header, self.quotes, self._kept_values, *written)

    @property
    def _described_by(self) -> list[str | int]:
        columns = self.attribute_columns
        return [columns] if isinstance(columns, str | int) else list(columns or ())

    @property
    def _kept_values(self) -> dict[str | int, list[str]]:
        if not isinstance(self.keep, Mapping | None):
            raise UserError(f"dataset.keep={self.keep}: must be null or like {{event:[view,addtocart]}}")
        listed = {
            name: [wanted] if isinstance(wanted, str) or not isinstance(wanted, Sequence) else wanted
            for name, wanted in (self.keep or {}).items()
        }
        return {name: [word for value in wanted for word in _written(value)] for name, wanted in listed.items()}

    def load(self, data_dir: str | Path, cache_dir: str | Path | None) -> Dataset:
        """Return the prepared data set, fetched and prepared at the first time; `warnings` tell what is unexpected."""
        folder = cache_folder(cache_dir)
        file = self._found_file(data_dir, folder)
        found = stamp(file)
        sha256, arrays, warnings = self._prepared(file, folder)
        kinds = [name for name in arrays if name.startswith(ATTRIBUTES)]
        attributes = {name.removeprefix(ATTRIBUTES): arrays.pop(name) for name in kinds}
        facts = {"sha256": sha256, "stamp": found, "attributes": attributes, "warnings": tuple(warnings)}
        return Dataset(name=self.name, **facts, **arrays)

    def find(self, data_dir: str | Path) -> Found | None:
        """Return the raw file, with that of the attributes if one is named; None where it is not on the disk.

        Raises UserError if the configuration names none, or one of attributes that is not there.
        """
        if self.file is None and self.path is None:
            raise UserError("dataset.path is not set: give the path of your file, as in dataset.path=clicks.csv")
        folder = Path(data_dir).expanduser().absolute()
        paths = (
            [Path(self.path).expanduser().absolute()] if self.file is None else [folder / name for name in self._names]
        )
        there = next((path for path in paths if path.exists()), None)
        if there is None or self.attributes is None:
            return there and open_raw(there, self.member, self.encoding)
        described = folder / Path(self.attributes).expanduser()
        if not described.exists():
            home = f"; see {self.home}" if self.home else ""
            raise UserError(f"dataset.attributes={self.attributes}: there is no such file in {folder}{home}")
        return WithAttributes(open_raw(there, self.member, self.encoding), open_raw(described, None))

    def file_sha256(self, data_dir: str | Path) -> str:
        """Return the hash of the raw file, which has to be there unless there is a url. Raises UserError if it is not."""
        return self._found_file(data_dir, cache_folder(None)).sha256()

    def cache_file(self, sha256: str, folder: Path) -> Path:
        """Return where in the cache folder the prepared copy of the raw file with this hash lies, or would lie."""
        options = {"min_rating": self.min_rating, "k_core": self.k_core, **vars(self.columns)}
        options |= {"keep": list(self.columns.keep.items()), "encoding": self.encoding}
        options |= {"attribute_columns": self._described_by}
        options |= {"session_minutes": self.session_minutes, "drop_repeats": self.drop_repeats}
        if self.keep:
            options["kept"] = "as written"  # copies of earlier versions may hold other rows
        for name, first in YOUNGER.items():  # at these values the copies of earlier versions stay good
            if options[name] == first:
                del options[name]
        return cache_file(folder, self.name, sha256=sha256, reader=self.reader, **options)

    def _prepared(self, file: Found, folder: Path, name: str | None = None) -> tuple[str, Arrays, list[str]]:
        """Return the hash of a raw file, its prepared arrays and what differs from the expectation; `name` is what it will have."""
        sha256 = file.sha256()
        arrays, warnings = cached(self.cache_file(sha256, folder), functools.partial(self._build, file))
        found = dict(zip(COUNTED, arrays.pop("counts").tolist(), strict=True))
        interactions = file.interactions if isinstance(file, WithAttributes) else file
        found["sha256"] = sha256 if interactions is file else interactions.sha256()
        known = {key: getattr(self, key) for key in found}
        if stated := (self.md5 or {}).get(name or interactions.path.name):
            found["md5"], known["md5"] = pooch.file_hash(str(interactions.path), alg="md5"), stated
        for key, value in found.items():
            if known[key] not in (None, value):
                warnings.append(f"dataset={self.name}: {file} has {key} {value}, expected {known[key]}")
        return sha256, arrays, warnings

    def _build(self, file: Found) -> Arrays:
        described = None
        if isinstance(file, WithAttributes):
            file, described = file.interactions, file.attributes
        raw = read(file, self.reader, self.columns)
        if raw.found:
            log.info("%s: %s", file, raw.found)
        counts = np.array([len(raw.user_ids), len(raw.item_ids), len(raw.user)])
        arrays = prepare(raw, self.min_rating, self.k_core, file, self.session_minutes, self.drop_repeats)
        arrays["counts"] = counts
        pairs = {} if described is None else {"attributes": read_item_values(described)}
        pairs |= {str(column): self._values(file, column) for column in self._described_by}
        for kind, (items, values) in pairs.items():
            arrays[ATTRIBUTES + kind] = attribute_table(items, values, arrays["item_ids"])
            if not arrays[ATTRIBUTES + kind].any():
                raise UserError(
                    f"dataset.attributes={self.attributes}: it describes no item of {file}; are these its ids?"
                )
        return arrays

    def _values(self, file: RawFile | RawFolder, column: str | int) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs of an item id and a value in a column, each pair once, [N] each: the readers take the value for a user."""
        try:
            raw = read(file, self.reader, replace(self.columns, user=column, time=None, rating=None))
        except UserError as error:
            raise UserError(str(error).replace("dataset.user_column", "dataset.attribute_columns")) from None
        item, value = np.divmod(np.unique(raw.item * np.int64(len(raw.user_ids)) + raw.user), len(raw.user_ids))
        return raw.item_ids[item], raw.user_ids[value]

    def _found_file(self, data_dir: str | Path, folder: Path) -> Found:
        return self.find(data_dir) or self._fetch(Path(data_dir).expanduser().absolute(), folder)

    def _fetch(self, data_dir: Path, folder: Path) -> Found:
        """Download the file into data_dir; `folder` keeps the lock. Raises UserError where it cannot be had."""
        if self.file is None:
            where = "" if Path(self.path).expanduser().is_absolute() else f" in {Path.cwd()}"
            raise UserError(f"dataset.path={self.path}: there is no such file{where}")
        names = self._names
        by_hand = (
            f"get it from {self.home} and put it there as {' or '.join(names)} "
            f"(SEQREC_DATA or data_dir={data_dir} is the folder)"
        )
        paths = [data_dir / name for name in names]
        if self.url is None:
            raise UserError(f"dataset={self.name}: {names[0]} is not in {data_dir}\n  {by_hand}")
        path = next((path for path in paths if path.name == self.url.rsplit("/", 1)[-1]), paths[0])
        if (
            self.sha256 is None
            and None in (self.users, self.items, self.interactions)
            and path.name not in (self.md5 or {})
        ):
            raise UserError(
                f"dataset={self.name}: {path.name} is downloaded only if dataset.sha256 or md5 tells what to expect\n  {by_hand}"
            )
        with locked(folder, f"download-{path.name}"):
            if not path.exists():  # else another process was faster
                try:
                    download(self.url, path, functools.partial(self._approve, folder, path.name))
                except UserError as error:
                    raise UserError(f"dataset={self.name}: {error}\n  {by_hand}") from error
        return self.find(data_dir)

    def _approve(self, folder: Path, name: str, path: Path) -> None:
        """Raise UserError unless a file that has just been downloaded is what was expected under its `name`."""
        warnings = self._prepared(open_raw(path, self.member, self.encoding), folder, name)[2]
        if warnings:
            raise UserError(f"{self.url} gave another file than expected: {warnings[0]}")


def _written(value: object) -> list[str]:
    """Return the ways in which a file may spell a value."""
    word = str(value)
    return [word, word.lower(), word.upper()] if isinstance(value, bool) else [word]
