"""Prepared arrays in a cache folder, built once for all processes."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pooch
from filelock import FileLock

from seqrec.utils.errors import UserError
from seqrec.utils.files import remove_leftovers, write_atomically

FORMAT = 2  # to be increased whenever a reader or `prepare` returns other arrays for the same file

CONTENT = {"items", "offsets", "user_ids", "item_ids", "counts"}  # of every copy; most have times too, some attributes
ATTRIBUTES = "attributes/"  # begins the names of these

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
            content = io.BytesIO()
            np.savez(content, copy=path.stem, **arrays)
            with _writing(path.parent):
                write_atomically(path, content.getbuffer())
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
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if (
            arrays.pop("copy", path.stem) != path.stem
            or {name for name in arrays if not name.startswith(ATTRIBUTES)} - {"times"} != CONTENT
        ):
            raise ValueError("the copy of something else")
        return arrays, None
    except FileNotFoundError:
        return None, None
    except Exception as error:  # there is no end to what damage makes of a file
        return None, str(error)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cache_dir={folder}: cannot write there ({error.strerror or error}); set cache_dir to a folder of yours"
        ) from error
