"""Splits against lists written by hand and against loops over users."""

import numpy as np
import pytest

from seqrec.data.split import EvalSplit, LeaveOneOut, Temporal
from seqrec.utils.errors import UserError


def rows_of(sequences):
    return [sequences.items[a:b].tolist() for a, b in zip(sequences.start, sequences.stop, strict=True)]


def targets_of(evaluated):
    """EvalSplit as {user: (target, inputs)}."""
    inputs = rows_of(evaluated.inputs)
    assert inputs == rows_of(evaluated.history)
    assert evaluated.target.dtype == np.int64
    assert len(set(evaluated.user.tolist())) == len(evaluated.user)
    return {
        user: (target, row)
        for user, target, row in zip(evaluated.user.tolist(), evaluated.target.tolist(), inputs, strict=True)
    }


def test_leave_one_out_by_hand(dataset):
    split = LeaveOneOut()(dataset)
    assert rows_of(split.train) == [[1, 2, 3], [2], [4, 6], [7, 1, 2, 8], [5, 6, 5], [8, 7]]
    assert targets_of(split.valid) == {
        0: (4, [1, 2, 3]),
        1: (3, [2]),
        3: (3, [7, 1, 2, 8]),
        4: (6, [5, 6, 5]),
        5: (6, [8, 7]),
    }
    assert targets_of(split.test) == {
        0: (5, [1, 2, 3, 4]),
        1: (1, [2, 3]),
        3: (9, [7, 1, 2, 8, 3]),
        4: (5, [5, 6, 5, 6]),
        5: (9, [8, 7, 6]),
    }


def test_leave_one_out_of_short_users(dataset_of):
    split = LeaveOneOut()(dataset_of([[1], [2, 3], [4, 5, 6], [7, 8]]))
    assert rows_of(split.train) == [[1], [2, 3], [4], [7, 8]]
    assert targets_of(split.valid) == {2: (5, [4])}
    assert targets_of(split.test) == {2: (6, [4, 5])}
    with pytest.raises(UserError, match="no user of 'tiny' has a validation target"):
        LeaveOneOut()(dataset_of([[1], [2, 3]]))


def test_targets_that_the_user_already_had(dataset):
    split = LeaveOneOut()(dataset)
    assert split.valid.target_in_history().tolist() == [False, False, False, True, False]
    assert split.test.target_in_history().tolist() == [False, False, False, True, False]


def test_target_in_history_knows_the_clean_history(sequences_of):
    evaluated = EvalSplit(np.array([8, 9]), np.array([1, 5]), sequences_of([[5], [5]]), sequences_of([[1, 2], [2, 2]]))
    assert evaluated.target_in_history().tolist() == [True, False]


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize("moments", [12, 80])
def test_temporal_against_a_loop(dataset_of, quantile, moments):
    generator = np.random.default_rng(0)
    rows = [generator.integers(1, 30, generator.integers(1, 12)).tolist() for _ in range(60)]
    times = [np.sort(generator.integers(0, moments, len(row))).tolist() for row in rows]  # with ties
    split = Temporal(quantile)(dataset_of(rows, times))
    everything = sorted(time for own in times for time in own)
    test_time = np.quantile(everything, quantile)
    valid_time = np.quantile([time for time in everything if time <= test_time], quantile)
    train, valid, test = [], {}, {}
    for user, (row, own) in enumerate(zip(rows, times, strict=True)):
        train.append([item for item, time in zip(row, own, strict=True) if time <= valid_time])
        for part, since, until in ((valid, valid_time, test_time), (test, test_time, np.inf)):
            within = [at for at, time in enumerate(own) if since < time <= until]
            if within and within[0] > 0:
                part[user] = (row[within[0]], row[: within[0]])
    assert rows_of(split.train) == train
    assert targets_of(split.valid) == valid
    assert targets_of(split.test) == test
    assert [] in train
    assert len(valid) > 5
    assert len(test) > 5


def test_temporal_by_hand(dataset_of):
    rows = [[1, 2, 3], [4, 5], [6, 7, 8], [9, 1]]
    times = [[0, 1, 10], [2, 8], [7, 9, 9], [11, 12]]
    split = Temporal(0.5)(dataset_of(rows, times))  # test after 8.5 (median), validation after 2 (median of 0 1 2 7 8)
    assert rows_of(split.train) == [[1, 2], [4], [], []]
    assert targets_of(split.valid) == {1: (5, [4])}  # the third user has nothing before its first
    assert targets_of(split.test) == {0: (3, [1, 2]), 2: (7, [6])}  # the second of two events at once is no target


def test_temporal_validation_is_a_share_of_what_comes_before_test(dataset_of):
    rows = [[1, 2, 3], [4, 5, 6], [7, 8, 9, 1]]
    times = [[0, 4, 5], [1, 5, 9], [2, 5, 5, 9]]
    split = Temporal(0.5)(dataset_of(rows, times))  # test after 5, validation after 4.5 (median of 0 1 2 4 5 5 5 5)
    assert rows_of(split.train) == [[1, 2], [4], [7]]
    assert targets_of(split.valid) == {0: (3, [1, 2]), 1: (5, [4]), 2: (8, [7])}
    assert targets_of(split.test) == {1: (6, [4, 5]), 2: (1, [7, 8, 9])}


def test_valid_users_are_a_subset_that_depends_on_the_ids_alone(dataset_of):
    rows = [[user + 1, user + 2, user + 3, user + 4] for user in range(60)]
    split = LeaveOneOut()(dataset_of(rows))
    ids = np.arange(60) * 7
    some = split.with_valid_users(20, ids)
    assert some.train is split.train
    assert some.test is split.test
    chosen = some.valid.user
    assert len(chosen) == 20
    assert (np.diff(chosen) > 0).all()
    assert some.valid.same(split.valid.take(chosen))
    assert set(split.with_valid_users(10, ids).valid.user) < set(chosen)
    backwards = split.with_valid_users(20, ids[::-1]).valid.user
    assert set(ids[::-1][backwards]) == set(ids[chosen])
    for everybody in (None, 60, 1000):
        assert split.with_valid_users(everybody, ids) is split
    without_short = LeaveOneOut()(dataset_of([[1, 2], *rows]))
    assert len(without_short.with_valid_users(5, np.arange(61)).valid.user) == 5


def test_temporal_needs_times_and_somebody_to_ask(dataset, dataset_of):
    with pytest.raises(UserError, match="split=temporal needs times, and 'tiny' has none; use split=leave_one_out"):
        Temporal(0.9)(dataset)
    with pytest.raises(UserError, match="no user of 'tiny' has a validation target"):
        Temporal(0.9)(dataset_of([[1, 2], [3, 4]], [[5, 5], [5, 5]]))
