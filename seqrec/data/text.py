"""What the readers of text share: words of lines found by whole-array operations, and errors that name a line."""

import numpy as np

from seqrec.utils.errors import UserError


def fault(where: object, line: int, problem: str) -> UserError:
    """Return the error for a line (from 1) of a file."""
    return UserError(f"{where}, line {line}: {problem}; correct or remove the line")


def refuse_binary(content: bytes, where: object) -> None:
    """Raise UserError unless the content is text in UTF-8."""
    if b"\0" in content:
        raise UserError(f"{where} is a binary file, or text in UTF-16; a text in UTF-8 is needed")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{where}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
            "convert the file, e.g. with iconv -f latin1 -t utf-8"
        ) from None


def words(content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return begin [W], end [W] and line [W] (from 0) of the words that blanks, tabs and line ends part."""
    letter = np.frombuffer(content, np.uint8)
    solid = np.zeros(len(letter) + 2, bool)
    solid[1:-1] = (letter - np.uint8(9) > 4) & (letter != 32)  # codes 9 to 13 are tab, line feed ... carriage return
    edge = np.flatnonzero(solid[1:] != solid[:-1])
    begin, end = edge[::2], edge[1::2]
    return begin, end, np.searchsorted(np.flatnonzero(letter == 10), begin)


def blank(ids: np.ndarray) -> np.ndarray:
    """Tell which str ids have nothing in them but blanks, [N] bool."""
    return np.char.strip(ids) == ""


def typed_ids(ids: np.ndarray) -> np.ndarray:
    """Return str ids as int64 if every one of them is an integer as Python writes it ("007" is not), else unchanged."""
    try:
        whole = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return whole if np.array_equal(whole.astype(str), ids) else ids
