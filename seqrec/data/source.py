"""A data set that lies in a file: found, fetched, checked against what is known of it, prepared, kept."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqrec.data.cache import Arrays, cache_file, cache_folder, cached, locked
from seqrec.data.dataset import Dataset
from seqrec.data.download import download
from seqrec.data.prepare import prepare
from seqrec.data.raw import RawFile, open_raw
from seqrec.data.readers import check_reader, read
from seqrec.data.table import Columns
from seqrec.errors import UserError

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
        if not isinstance(self.k_core, int | None) or not isinstance(self.min_rating, int | float | None):
            raise UserError(
                f"dataset.k_core={self.k_core}, dataset.min_rating={self.min_rating}: must be numbers or null"
            )

    @property
    def columns(self) -> Columns:
        """The columns that the reader `table` looks for."""
        return Columns(self.user_column, self.item_column, self.time_column, self.rating_column, self.separator)

    def load(self, data_dir: str | Path, cache_dir: str | Path | None) -> Dataset:
        """Return the prepared data set, downloading and preparing at the first time; what is unexpected is in `warnings`."""
        folder = cache_folder(cache_dir)
        file, fetched = self.find(Path(data_dir).expanduser().absolute(), folder)
        sha256 = file.sha256()
        wrong = self._wrong_hash(file, sha256)
        if not (fetched and wrong):
            arrays, warnings = cached(self.cache_file(sha256, cache_dir), functools.partial(self._build, file))
            wrong += self._wrong_counts(file, arrays.pop("counts"))
        if fetched and wrong:
            file.path.unlink()
            raise UserError(
                f"{wrong[0]}\n  it came from {self.url} and has been removed; {self._by_hand(file.path.parent)}"
            )
        return Dataset(name=self.name, sha256=sha256, warnings=(*wrong, *warnings), **arrays)

    def cache_file(self, sha256: str, cache_dir: str | Path | None) -> Path:
        """Return where the prepared copy of the raw file with this hash lies, or would lie."""
        options = {"min_rating": self.min_rating, "k_core": self.k_core, **vars(self.columns)}
        return cache_file(cache_folder(cache_dir), self.name, sha256=sha256, reader=self.reader, **options)

    def find(self, data_dir: Path, cache_folder: Path) -> tuple[RawFile, bool]:
        """Return the raw file and whether it has just been downloaded; raises UserError if it is not to be had."""
        if self.file is None:
            return self._own_file(), False
        candidates = [data_dir / name for name in self._names]
        for path in candidates:
            if path.exists():
                return open_raw(path, self.member), False
        if self.url is None:
            raise UserError(f"dataset={self.name}: {self._names[0]} is not in {data_dir}\n  {self._by_hand(data_dir)}")
        basename = self.url.rsplit("/", 1)[-1]
        path = next((path for path in candidates if path.name == basename), candidates[0])
        with locked(cache_folder, f"download-{path.name}"):
            fetch = not path.exists()  # another process may have been faster
            if fetch:
                try:
                    download(self.url, path)
                except UserError as error:
                    raise UserError(f"dataset={self.name}: {error}\n  {self._by_hand(data_dir)}") from error
        return open_raw(path, self.member), fetch

    @property
    def _names(self) -> list[str]:
        return [self.file] if isinstance(self.file, str) else list(self.file)

    def _own_file(self) -> RawFile:
        if self.path is None:
            raise UserError("dataset.path is not set: give the path of your file, as in dataset.path=clicks.csv")
        path = Path(self.path).expanduser().absolute()
        if not path.exists():
            raise UserError(f"dataset.path={self.path}: there is no such file")
        return open_raw(path, self.member)

    def _by_hand(self, data_dir: Path) -> str:
        """Tell how to put the file in its place by hand."""
        return (
            f"get it from {self.home} and put it there as {' or '.join(self._names)} "
            f"(SEQREC_DATA or data_dir={data_dir} is the folder)"
        )

    def _build(self, file: RawFile) -> Arrays:
        raw = read(file, self.reader, self.columns)
        counts = np.array([len(raw.user_ids), len(raw.item_ids), len(raw.user)])
        return prepare(raw, self.min_rating, self.k_core, file) | {"counts": counts}

    def _wrong_hash(self, file: RawFile, sha256: str) -> list[str]:
        if self.sha256 in (None, sha256):
            return []
        return [f"{file} is not the file that dataset={self.name} stands for: sha256 {sha256}, expected {self.sha256}"]

    def _wrong_counts(self, file: RawFile, counts: np.ndarray) -> list[str]:
        found = dict(zip(COUNTED, counts.tolist(), strict=True))
        expected = {name: getattr(self, name) for name in COUNTED}
        wrong = [
            f"{found[name]} {name}, expected {expected[name]}"
            for name in COUNTED
            if expected[name] not in (None, found[name])
        ]
        return [f"{file} differs from what dataset={self.name} stands for: {'; '.join(wrong)}"] if wrong else []
