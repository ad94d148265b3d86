"""Prepared arrays in a cache folder, built once for all processes."""

import functools
import hashlib
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pooch
from filelock import FileLock

from seqrec.utils.errors import UserError
from seqrec.utils.files import remove_leftovers, write_atomically

FORMAT = 2  # to be increased whenever a reader or `prepare` returns other arrays for the same file

CONTENT = {"items", "offsets", "user_ids", "item_ids", "counts"}  # of every copy; most have times too, some attributes
ATTRIBUTES = "attributes/"  # begins the names of these

# Of a zip archive: bytes of a local header and of its field for sizes above 4 GB, and the mark of a field that fills up.
FIXED_HEADER, LARGE_FILE, PADDING = 30, 20, 0xD935

Arrays = dict[str, np.ndarray]


def cache_folder(cache_dir: str | None) -> Path:
    """Return the folder of prepared copies, created if needed; None is the user's own cache folder."""
    folder = Path(pooch.os_cache("seqrec") if cache_dir is None else cache_dir).expanduser().absolute()
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_file(folder: Path, name: str, **key) -> Path:
    """Return the path of the copy for `key` (hash of the raw file, reader and options)."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    return folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}-{digest[:20]}.npz"


def cached(path: Path, build: Callable[[], Arrays]) -> tuple[Arrays, list[str]]:
    """Return the arrays of the copy at `path`, built first where it is missing or broken, and warnings.

    They are mapped into memory: what processes read of a copy is there once, and is not read-write.
    Raises UserError, which names cache_dir, where the copy cannot be written.
    """
    arrays, broken = _load(path)
    if arrays is not None:
        return arrays, []
    with locked(path.parent, path.stem):
        arrays, broken = _load(path)  # another process may have built it in the meantime
        if arrays is None:
            remove_leftovers(path.parent, path.name)
            arrays = build()
            with _writing(path.parent):
                write_atomically(path, functools.partial(_write, {"copy": np.array(path.stem), **arrays}))
            arrays = _load(path)[0] or arrays
    return arrays, [f"the prepared copy {path} was broken ({broken}) and has been rebuilt"] if broken else []


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Let only one process at a time hold the lock of this name."""
    lock = FileLock(folder / f".{name}.lock")
    with _writing(folder):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _load(path: Path) -> tuple[Arrays | None, str | None]:
    """Return the arrays, or None and what is wrong with the file (None if there is no file)."""
    try:
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():  # compares checksums
                raise ValueError(f"{broken} is damaged")
            for entry in archive.infolist():
                arrays[entry.filename.removesuffix(".npy")] = _mapped(path, entry.header_offset)
        found = {name for name in arrays if not name.startswith(ATTRIBUTES)} - {"times"}
        if str(arrays.pop("copy", path.stem)) != path.stem or found - {"copy"} != CONTENT:
            raise ValueError("the copy of something else")
        return arrays, None
    except FileNotFoundError:
        return None, None
    except Exception as error:  # there is no end to what damage makes of a file
        return None, str(error)


def _write(arrays: Arrays, stream: BinaryIO) -> None:
    """Write an archive as np.savez does, but each array at a multiple of 64 bytes, so that it can be mapped into memory."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            header = FIXED_HEADER + len(entry.filename) + LARGE_FILE
            padding = -(stream.tell() + header + 4) % 64
            entry.extra = struct.pack("<HH", PADDING, padding) + bytes(padding)
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _mapped(path: Path, header_offset: int) -> np.ndarray:
    """Map the array of an archive's entry into memory, which all processes share; it cannot be written to."""
    with path.open("rb") as stream:
        stream.seek(header_offset + 26)
        stream.seek(header_offset + FIXED_HEADER + sum(struct.unpack("<HH", stream.read(4))))
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("an array of an unknown format")
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        if kind.hasobject:  # a pickle, which runs whatever it likes
            raise ValueError("an array of objects")
        if not math.prod(shape):
            return np.zeros(shape, kind)
        array = np.asarray(np.memmap(path, kind, "r", stream.tell(), shape))
        return array if array.flags.aligned else array.copy()  # copies of earlier versions


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cache_dir={folder}: cannot write there ({error.strerror or error}); set cache_dir to a folder of yours"
        ) from error
