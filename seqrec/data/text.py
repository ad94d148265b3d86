"""Common helpers of the text readers: words of lines found by whole-array operations, and errors that name a line."""

import numpy as np

from seqrec.utils.errors import UserError


def fault(where: object, line: int, problem: str) -> UserError:
    """Return the error for a line (from 1) of a file."""
    return UserError(f"{where}, line {line}: {problem}; correct or remove the line")


def utf8(content: bytes, encoding: str, where: object, line: int = 0) -> bytes:
    """Return text of the given encoding in UTF-8, without byte-order mark; raises UserError unless it is such text.

    `line` lines of the file `where` come before the content.
    """
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _misread(content, error, where, line) from None
    if encoding != "utf-8":
        content = text.removeprefix("\ufeff").encode()
    if b"\0" in content:
        raise _binary(where)
    return content


def _binary(where: object) -> UserError:
    return UserError(f"{where} is a binary file, or text in UTF-16: if it is, set dataset.encoding=utf-16")


def _misread(content: bytes, error: UnicodeDecodeError, where: object, line: int) -> UserError:
    if b"\0" in content and not error.encoding.startswith("utf-16"):
        return _binary(where)
    line += content.count(b"\n", 0, error.start) + 1
    return UserError(
        f"{where}, line {line}: byte 0x{content[error.start]:02x} is not {error.encoding}; "
        "set dataset.encoding to that of the file, as in dataset.encoding=latin-1"
    )


def whole_lines(content: bytes, quoted: bool) -> int:
    """Return where the last whole line of the content ends; with `quoted` a line does not end within "..."."""
    if not quoted or b'"' not in content:
        return content.rfind(b"\n") + 1
    byte = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(byte == ord("\n"))
    outside = np.searchsorted(np.flatnonzero(byte == ord('"')), ends) % 2 == 0
    return int(ends[outside].max(initial=-1)) + 1


def words(content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return begin [W], end [W] and line [W] (from 0) of the words separated by blanks, tabs and line ends."""
    byte = np.frombuffer(content, np.uint8)
    solid = np.zeros(len(byte) + 2, bool)
    solid[1:-1] = (byte - np.uint8(9) > 4) & (byte != 32)  # codes 9 to 13 are tab, line feed ... carriage return
    edge = np.flatnonzero(solid[1:] != solid[:-1])
    begin, end = edge[::2], edge[1::2]
    return begin, end, np.searchsorted(np.flatnonzero(byte == 10), begin)


def blank(ids: np.ndarray) -> np.ndarray:
    """Return which str ids consist of blanks only, [N] bool."""
    return np.char.strip(ids) == ""


def typed_ids(ids: np.ndarray) -> np.ndarray:
    """Return str ids as int64 if every one of them is an integer as Python writes it ("007" is not), else unchanged."""
    try:
        whole = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return whole if np.array_equal(whole.astype(str), ids) else ids
