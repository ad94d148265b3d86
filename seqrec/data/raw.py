"""Raw data: a file on the disk (plain, gzip, or a member of a zip archive) and what a reader makes of it."""

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seqrec.utils.errors import UserError, nearest

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Raw:
    """Interactions in file order; ids are numbered, and every id of the two lists occurs at least once."""

    user: np.ndarray  # [N] int64, index into user_ids
    item: np.ndarray  # [N] int64, index into item_ids
    user_ids: np.ndarray  # int64 or str, distinct, in any order
    item_ids: np.ndarray  # int64 or str, distinct, in any order
    time: np.ndarray | None = None  # [N] float64, finite; None: the file's order is the order in time
    rating: np.ndarray | None = None  # [N] float64, finite


@dataclass(frozen=True)
class RawFile:
    """A file whose packing is told by its content, never by its name."""

    path: Path
    member: str | None = None  # path inside the zip archive

    def __str__(self):
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @contextmanager
    def stored(self) -> Iterator[BinaryIO]:
        """Open what the checksum is of: the bytes on the disk, or those of the zip archive's member."""
        with _readable(self):
            if self.member is None:
                with self.path.open("rb") as stream:
                    yield stream
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the content, unpacked and without byte-order mark; raises UserError if it is damaged."""
        with self.stored() as stream:
            packed = stream.read(2) == GZIP
            stream.seek(0)
            content = gzip.GzipFile(fileobj=stream) if packed else stream
            if content.read(3) != BYTE_ORDER_MARK:
                content.seek(0)
            yield content

    def read(self) -> bytes:
        """Return the content, unpacked and without byte-order mark; raises UserError if it is empty or damaged."""
        with self.open() as stream:
            content = stream.read()
        if not content.strip():
            raise UserError(f"{self} is empty; get the file again")
        return content

    def sha256(self) -> str:
        """Return the SHA-256 of the stored bytes as 64 hexadecimal digits."""
        with self.stored() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _readable(file: RawFile) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what zipfile raises for an archive that wants a password
        raise UserError(f"{file} cannot be unpacked: {error}") from error
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); get the file again") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error


def open_raw(path: Path, member: str | None) -> RawFile:
    """Look at the file `path`; `member` names the file wanted inside, should it be a zip archive."""
    if path.is_dir():
        raise UserError(f"{path} is a directory; a file is needed")
    plain = RawFile(path)
    with plain.stored() as stream:
        if stream.read(4) != ZIP:
            return plain
        with zipfile.ZipFile(stream) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if member is None and len(names) == 1:
        return RawFile(path, names[0])
    if member not in names:
        problem = (
            "dataset.member must say which file of it" if member is None else f"dataset.member={member} is not in it"
        )
        raise UserError(
            f"{path} is a zip archive: {problem}{nearest(member or '', names)}\n  it holds: {', '.join(names)}"
        )
    return RawFile(path, member)
