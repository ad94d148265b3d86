"""Files that are either whole or absent."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def temporary_name(path: Path) -> Path:
    """Return the name under which this process writes what becomes `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(folder: Path, *names: str, age: float = 0) -> None:
    """Remove what killed processes left of files with these names in `folder`, unless it was changed in the last `age` seconds.

    A process that is writing them must have changed them since.
    """
    ours = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.\d+\.tmp")
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # another process has renamed or removed it
            if ours.fullmatch(path.name) and path.stat().st_mtime <= time.time() - age:
                path.unlink()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content`, or let it write to a stream, under a temporary name in the same folder, then rename; raises OSError."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as stream:
            content(stream) if callable(content) else stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
