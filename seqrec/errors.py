"""The error that is shown to a user as one or two lines, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: the message names the file, key or value, and what to do."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest choice, or "" where none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""
