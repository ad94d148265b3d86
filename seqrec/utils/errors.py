"""The error that is shown to a user as one or two lines, without a traceback."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """An error the user can fix: the message names the file, key or value, and what to do."""


def one_of(key: str, value: object, choices: Iterable[str]) -> None:
    """Raise UserError, naming the key, the value and the choices, unless the value is one of them."""
    if value not in choices:
        raise UserError(f"{key}={value}: must be one of {', '.join(choices)}{nearest(value, choices)}")


def within(key: str, value: float, least: float, most: float = math.inf) -> None:
    """Raise UserError, naming the key, the value and the bounds, unless the value lies between them."""
    if not isinstance(value, int | float) or not least <= value <= most:
        bounds = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise UserError(f"{key}={value}: must be a number {bounds}")


def nearest(word: object, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest choice, or "" where none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""


def must_take(key: str, function: Callable, *arguments: str) -> None:
    """Raise UserError, naming the key and the function, unless the function can be called with these arguments alone."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        named = f"{function.__module__}.{function.__qualname__}{inspect.signature(function)}"
        raise UserError(f"{key}: {named} must be a function of {', '.join(arguments)}") from None
