"""Random numbers that are functions of a key."""

import numpy as np
import pytest

from seqrec.utils.keyed_random import uniform, user_keys


def test_keyed_numbers_are_uniform_and_differ_by_every_word():
    numbers = uniform(3, np.arange(20000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] / 20000 == pytest.approx([0.1] * 10, abs=0.01)
    assert abs(np.corrcoef(numbers, uniform(4, np.arange(20000)))[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers, uniform(3, np.arange(20000), 0))[0, 1]) < 0.03
    assert len(np.unique(user_keys(np.array(["a", "b", "ab"], object)))) == 3
