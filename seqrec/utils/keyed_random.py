"""Random numbers that are a function of a key: the same whatever else is drawn, in any order and any process."""

import numpy as np


def user_keys(user_ids: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each user's own id (number or string), [U] uint64: the same in every order of users."""
    import pandas as pd  # here, for few runs need it

    return pd.util.hash_array(np.asarray(user_ids))


def key(*words: np.ndarray | int, start: int = 0) -> np.ndarray:
    """Return a 64-bit key of the words, which are broadcast: `start` and each word go through SplitMix64's finaliser in turn."""
    mixed = np.asarray(start).astype(np.uint64)
    with np.errstate(over="ignore"):  # products wrap around
        for word in words:
            mixed = _scramble(mixed) + np.asarray(word).astype(np.uint64)
        return _scramble(mixed)


def uniform(*words: np.ndarray | int) -> np.ndarray:
    """Return numbers in [0, 1) that are a function of the words, which are broadcast."""
    return (key(*words) >> np.uint64(11)) * 2.0**-53


def _scramble(word: np.ndarray) -> np.ndarray:
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
