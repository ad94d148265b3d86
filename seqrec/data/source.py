"""A data set that lies in a file: found, fetched, checked against what is known of it, prepared, kept."""

import functools
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import numpy as np

from seqrec.data.cache import Arrays, cache_file, cache_folder, cached, locked
from seqrec.data.dataset import Dataset
from seqrec.data.download import download
from seqrec.data.prepare import prepare
from seqrec.data.raw import RawFile, open_raw
from seqrec.data.readers import check_reader, read
from seqrec.data.table import Columns
from seqrec.utils.errors import UserError

COUNTED = ("users", "items", "interactions")


@dataclass(frozen=True)
class FileDataset:
    """A named public file (`file`, looked for in data_dir) or a file of the user's own (`path`).

    `sha256` is that of the file as it lies on the disk, or of the member of a zip archive; `users`, `items` and
    `interactions` are counts of the file before filters. What is None is not checked. Raises UserError for a value
    that makes no sense.
    """

    name: str
    reader: str
    file: str | list[str] | None = None  # names it may have in data_dir
    member: str | None = None  # its path in a zip archive
    sha256: str | None = None
    url: str | None = None  # direct download
    home: str | None = None  # page that tells where to get it
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    min_rating: float | None = None
    k_core: int | None = None
    path: str | None = None
    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None
    rating_column: str | None = None
    separator: str | None = None

    def __post_init__(self):
        check_reader(self.reader)
        if self.reader != "table" and self.columns != Columns():
            raise UserError(f"dataset.reader={self.reader} knows its columns: leave out dataset.*_column and separator")
        if self.k_core is not None and (type(self.k_core) is not int or self.k_core < 1):
            raise UserError(f"dataset.k_core={self.k_core}: must be null or a whole number above 0")
        if type(self.min_rating) not in (int, float, NoneType):
            raise UserError(f"dataset.min_rating={self.min_rating}: must be null or a number")

    @property
    def columns(self) -> Columns:
        """The columns that the reader `table` looks for."""
        return Columns(self.user_column, self.item_column, self.time_column, self.rating_column, self.separator)

    def load(self, data_dir: str | Path, cache_dir: str | Path | None) -> Dataset:
        """Return the prepared data set, fetched and prepared at the first time; `warnings` tell what is unexpected."""
        folder = cache_folder(cache_dir)
        if self.file is None:
            file = self._own_file()
        else:
            file = self._named_file(Path(data_dir).expanduser().absolute(), folder)
        sha256, arrays, warnings = self._prepared(file, folder)
        return Dataset(name=self.name, sha256=sha256, warnings=tuple(warnings), **arrays)

    def cache_file(self, sha256: str, folder: Path) -> Path:
        """Return where in the cache folder the prepared copy of the raw file with this hash lies, or would lie."""
        options = {"min_rating": self.min_rating, "k_core": self.k_core, **vars(self.columns)}
        return cache_file(folder, self.name, sha256=sha256, reader=self.reader, **options)

    def _prepared(self, file: RawFile, folder: Path) -> tuple[str, Arrays, list[str]]:
        """Return the hash of a raw file, its prepared arrays and what differs from the expectation."""
        sha256 = file.sha256()
        arrays, warnings = cached(self.cache_file(sha256, folder), functools.partial(self._build, file))
        found = dict(zip(COUNTED, arrays.pop("counts").tolist(), strict=True))
        found["sha256"] = sha256
        for name, value in found.items():
            expected = getattr(self, name)
            if expected not in (None, value):
                warnings.append(f"dataset={self.name}: {file} has {name} {value}, expected {expected}")
        return sha256, arrays, warnings

    def _build(self, file: RawFile) -> Arrays:
        raw = read(file, self.reader, self.columns)
        counts = np.array([len(raw.user_ids), len(raw.item_ids), len(raw.user)])
        return prepare(raw, self.min_rating, self.k_core, file) | {"counts": counts}

    def _named_file(self, data_dir: Path, folder: Path) -> RawFile:
        """Find the file in data_dir or fetch it; `folder` keeps the lock."""
        names = [self.file] if isinstance(self.file, str) else list(self.file)
        by_hand = (
            f"get it from {self.home} and put it there as {' or '.join(names)} "
            f"(SEQREC_DATA or data_dir={data_dir} is the folder)"
        )
        paths = [data_dir / name for name in names]
        for path in paths:
            if path.exists():
                return open_raw(path, self.member)
        if self.url is None:
            raise UserError(f"dataset={self.name}: {names[0]} is not in {data_dir}\n  {by_hand}")
        path = next((path for path in paths if path.name == self.url.rsplit("/", 1)[-1]), paths[0])
        with locked(folder, f"download-{path.name}"):
            if not path.exists():  # else another process was faster
                try:
                    download(self.url, path, functools.partial(self._approve, folder))
                except UserError as error:
                    raise UserError(f"dataset={self.name}: {error}\n  {by_hand}") from error
        return open_raw(path, self.member)

    def _approve(self, folder: Path, path: Path) -> None:
        """Raise UserError unless a file that has just been downloaded is what was expected."""
        warnings = self._prepared(open_raw(path, self.member), folder)[2]
        if warnings:
            raise UserError(f"{self.url} gave another file than expected: {warnings[0]}")

    def _own_file(self) -> RawFile:
        if self.path is None:
            raise UserError("dataset.path is not set: give the path of your file, as in dataset.path=clicks.csv")
        path = Path(self.path).expanduser().absolute()
        if not path.exists():
            raise UserError(f"dataset.path={self.path}: there is no such file")
        return open_raw(path, self.member)
