"""Groups of sequences of like length, so that each group is computed with little padding."""

from collections.abc import Callable

import numpy as np


def falling_groups(values: np.ndarray, bound: Callable[[int], float]) -> list[tuple[int, int]]:
    """Cut falling numbers [N] into groups (start, stop): a new one begins below `bound` of the group's first number.

    Zeros, at the end, are left out. `bound` must be above 0 and at most its argument.
    """
    groups, start = [], 0
    while start < len(values) and values[start] > 0:
        stop = int(np.searchsorted(-values, -bound(int(values[start])), side="right"))
        groups.append((start, stop))
        start = stop
    return groups
