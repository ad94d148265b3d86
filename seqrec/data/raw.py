"""Raw data: a file on the disk (plain, gzip, or a member of a zip archive), or a folder of them."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from seqrec.data.text import utf8, whole_lines
from seqrec.utils.errors import UserError, nearest

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ALWAYS_UNPACKED, LARGEST_RATIO = 2**30, 100  # bytes; unpacked over packed size: tables of clicks reach 3 to 30
CHUNK = 2**20
BLOCK = 2**24  # bytes of text that are read at once


class _Bounded(io.RawIOBase):
    """An unpacked stream that refuses to grow out of all proportion to the file on the disk."""

    def __init__(self, stream: BinaryIO, file: "RawFile"):
        self.stream, self.file = stream, file
        self.limit = max(ALWAYS_UNPACKED, LARGEST_RATIO * file.path.stat().st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.stream.seek(offset, whence)

    def readinto(self, buffer) -> int:
        count = self.stream.readinto(buffer)
        if self.stream.tell() > self.limit:
            raise UserError(
                f"{self.file} unpacks to more than {LARGEST_RATIO} times its size ({self.limit:,} bytes); "
                "if that is right, unpack it and give the unpacked file"
            )
        return count

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK), b""))


@dataclass(frozen=True)
class RawFile:
    """A file whose packing is told by its content, never by its name."""

    path: Path
    member: str | None = None  # path inside the zip archive
    encoding: str = "utf-8"  # of text

    @property
    def parts(self) -> tuple["RawFile", ...]:
        """The file itself, as the only part."""
        return (self,)

    def __str__(self):
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @property
    def plain(self) -> bool:
        """Whether the file on the disk is the content itself."""
        with self.stored() as stream:
            return self.member is None and stream.read(2) != GZIP

    @contextmanager
    def stored(self) -> Iterator[BinaryIO]:
        """Open what the checksum is of: the bytes on the disk, or those of the zip archive's member."""
        with _readable(self):
            if self.member is None:
                with self.path.open("rb") as stream:
                    yield stream
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield io.BufferedReader(_Bounded(stream, self), CHUNK)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the content, unpacked and without byte-order mark; raises UserError if it is damaged."""
        with self.stored() as stream:
            packed = stream.read(2) == GZIP
            stream.seek(0)
            content = stream
            if packed:
                content = io.BufferedReader(_Bounded(gzip.GzipFile(fileobj=stream), self), CHUNK)
            if content.read(3) != BYTE_ORDER_MARK:
                content.seek(0)
            yield content

    def read(self) -> bytes:
        """Return the content, unpacked and without byte-order mark; raises UserError if it is damaged."""
        with self.open() as stream:
            return stream.read()

    def text(self) -> bytes:
        """Return the content in UTF-8; raises UserError if it is empty, damaged or no text."""
        content = utf8(self.read(), self.encoding, self)
        if not content.strip():
            raise UserError(f"{self} is empty; get the file again")
        return content

    def text_blocks(self, quoted: bool = False) -> Iterator[bytes]:
        """Yield the content in UTF-8, whole lines of it at a time, none of them blank alone; raises UserError as `text` does.

        With `quoted` a line does not end within "...". Text in another encoding comes as one block.
        """
        if self.encoding != "utf-8":
            yield self.text()
            return
        rest, line, goes_on, empty = b"", 0, True, True
        size = self.path.stat().st_size if self.plain else None
        with self.open() as stream, progress(self.path.name, size, "B") as bar:
            while goes_on:
                wanted = max(BLOCK, len(rest))
                piece = stream.read(wanted)
                goes_on = len(piece) == wanted
                bar.update(len(piece))
                content = rest + piece
                end = whole_lines(content, quoted) if goes_on else len(content)
                if content[:end].isspace() or not end:
                    rest = content
                    continue
                empty = False
                yield utf8(content[:end], self.encoding, self, line)
                line += content.count(b"\n", 0, end)
                rest = content[end:]
        if empty:
            raise UserError(f"{self} is empty; get the file again")

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in UTF-8, which is not checked if it is the file's own encoding."""
        if self.encoding != "utf-8":
            yield from io.BytesIO(self.text())
            return
        with self.open() as stream:
            yield from stream

    def sha256(self) -> str:
        """Return the SHA-256 of the stored bytes as 64 hexadecimal digits."""
        with self.stored() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class RawFolder:
    """A folder whose files, in the order of their names, are the parts of one table."""

    path: Path
    parts: tuple[RawFile, ...]

    def __str__(self):
        return str(self.path)

    def sha256(self) -> str:
        """Return the SHA-256 of a list of the parts, each with its own, as 64 hexadecimal digits."""
        listed = "".join(f"{part.sha256()} {part.path.name}\n" for part in self.parts)
        return hashlib.sha256(listed.encode()).hexdigest()


@dataclass(frozen=True)
class WithAttributes:
    """A file or folder of interactions, and the file with the attributes of their items."""

    interactions: RawFile | RawFolder
    attributes: RawFile

    @property
    def parts(self) -> tuple[RawFile, ...]:
        """All files that the data come from."""
        return (*self.interactions.parts, self.attributes)

    def __str__(self):
        return str(self.interactions)

    def sha256(self) -> str:
        """Return the SHA-256 of both hashes, as 64 hexadecimal digits."""
        return hashlib.sha256(f"{self.interactions.sha256()} {self.attributes.sha256()}".encode()).hexdigest()


def stamp(file: RawFile | RawFolder | WithAttributes) -> list[list]:
    """Return path, size in bytes and time of change in ns of each part: while they stay, the SHA-256 does."""
    found = [(part.path, part.path.stat()) for part in file.parts]
    return [[str(path), status.st_size, status.st_mtime_ns] for path, status in found]


def progress(name: str, total: int | None, unit: str) -> tqdm:
    """Return a bar for reading a file, shown on terminals only."""
    return tqdm(desc=f"reading {name}", total=total, unit=unit, unit_scale=True, leave=False, disable=None)


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


def open_raw(path: Path, member: str | None, encoding: str = "utf-8") -> RawFile | RawFolder:
    """Look at the file or folder `path`; `member` names the file wanted inside, should it be a zip archive.

    Hidden files of a folder and those whose names begin with an underscore (_SUCCESS) are no parts.
    Raises UserError for what is no regular file.
    """
    if path.is_dir():
        inside = sorted(part for part in path.iterdir() if part.name[0] not in "._")
        if not inside:
            raise UserError(f"{path} is a folder without files; give a file, or a folder of files")
        return RawFolder(path, tuple(_open_file(part, member, encoding) for part in inside))
    return _open_file(path, member, encoding)


def _open_file(path: Path, member: str | None, encoding: str) -> RawFile:
    if not path.is_file():
        raise UserError(f"{path} is no regular file (a folder in a folder, a pipe, a device); write the data to a file")
    plain = RawFile(path, None, encoding)
    with plain.stored() as stream:
        if stream.read(4) != ZIP:
            return plain
        with zipfile.ZipFile(stream) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if member is None and len(names) == 1:
        return RawFile(path, names[0], encoding)
    if member not in names:
        problem = (
            "dataset.member must say which file of it" if member is None else f"dataset.member={member} is not in it"
        )
        raise UserError(
            f"{path} is a zip archive: {problem}{nearest(member or '', names)}\n  it holds: {', '.join(names)}"
        )
    return RawFile(path, member, encoding)
