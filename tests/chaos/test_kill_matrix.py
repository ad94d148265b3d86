"""A minute of `python -m tests.chaos.kill_matrix`."""

import random

import pytest

from tests.chaos.kill_matrix import FEW, torment


@pytest.mark.slow
@pytest.mark.parametrize("case", FEW, ids="-".join)
def test_runs_that_are_killed_end_with_the_same_bits(tmp_path, case):
    assert torment(tmp_path, case, kills=3, generator=random.Random(1)) is not None
