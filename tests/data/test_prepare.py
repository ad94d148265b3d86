"""Filters, order and numbering against literal, slow versions of themselves."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec.data.dataset import Dataset
from seqrec.data.gathered import Raw
from seqrec.data.prepare import core, prepare
from seqrec.utils.errors import UserError

ID = st.one_of(st.integers(0, 8), st.just(10**15))
WORD = st.sampled_from(["a", "b", "B", "é", "10", "9", "zz", "", "ß"]).filter(bool)


def rows(identity):
    return st.lists(
        st.tuples(identity, identity, st.sampled_from([1.0, 3.0, 5.0]), st.integers(0, 4)), min_size=1, max_size=40
    )


def raw_of(rows, timed=True, order=None):
    """Interactions as a reader gives them; `order` shuffles the numbers of the ids, which must not matter."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    coded = []
    for column in columns[:2]:
        ids, codes = np.unique(column, return_inverse=True)
        shuffle = np.random.default_rng(order).permutation(len(ids))
        coded.append((ids[shuffle], np.argsort(shuffle)[codes].astype(np.int32)))
    (user_ids, user), (item_ids, item) = coded
    return Raw(user, item, user_ids, item_ids, columns[3].astype(float) if timed else None, columns[2])


def slow_prepare(rows, timed, min_rating, k):
    """Return [(raw user, [(raw item, time)])] in ascending order of users, and the raw items in ascending order."""
    rows = [row for row in rows if min_rating is None or row[2] >= min_rating]
    changed = k is not None
    while changed:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = [row for row in rows if users[row[0]] >= k and items[row[1]] >= k]
        rows, changed = kept, len(kept) < len(rows)
    histories = []
    for user in sorted({row[0] for row in rows}):
        history = []
        for _, item, _, time in (row for row in rows if row[0] == user):
            place = len(history)
            while timed and place and history[place - 1][1] > time:  # behind all that is not later
                place -= 1
            history.insert(place, (item, time))
        histories.append((user, history))
    return histories, sorted({row[1] for row in rows})


@pytest.mark.parametrize("identity", [ID, WORD], ids=["integers", "text"])
@settings(deadline=None, max_examples=150)
@given(
    data=st.data(),
    timed=st.booleans(),
    min_rating=st.sampled_from([None, 3, 5.0]),
    k=st.sampled_from([None, 1, 2, 3]),
    order=st.integers(0, 9),
)
def test_against_the_slow_version(identity, data, timed, min_rating, k, order):
    drawn = data.draw(rows(identity))
    histories, items = slow_prepare(drawn, timed, min_rating, k)
    raw = raw_of(drawn, timed, order)
    if not histories:
        with pytest.raises(ValueError, match=r"^dataset\.(min_rating|k_core)=.*: nothing is left of here"):
            prepare(raw, min_rating, k, "here")
        return
    arrays = prepare(raw, min_rating, k, "here")
    number = {item: place for place, item in enumerate(items, 1)}
    padding = "" if isinstance(items[0], str) else 0
    flat = [pair for _, history in histories for pair in history]
    assert arrays["item_ids"].tolist() == [padding, *items]
    assert arrays["user_ids"].tolist() == [user for user, _ in histories]
    assert arrays["offsets"].tolist() == np.cumsum([0] + [len(history) for _, history in histories]).tolist()
    assert arrays["items"].tolist() == [number[item] for item, _ in flat]
    assert ("times" in arrays) == timed
    if timed:
        assert arrays["times"].tolist() == [time for _, time in flat]
    kinds = {name: array.dtype for name, array in arrays.items() if not name.endswith("ids")}
    assert kinds == {"items": np.int32, "offsets": np.int64} | ({"times": np.float64} if timed else {})
    assert arrays["user_ids"].dtype.kind == arrays["item_ids"].dtype.kind == ("U" if padding == "" else "i")
    assert arrays["item_ids"].dtype != object
    Dataset(name="x", **arrays).statistics()


def slow_sessions(rows, minutes, drop_repeats):
    """Return the rows under the ids of their sessions, oldest first, without items that follow themselves."""
    made = []
    for user in dict.fromkeys(row[0] for row in rows):
        number, before = 1, None
        for row in sorted((row for row in rows if row[0] == user), key=lambda row: row[3]):
            if before is not None and minutes is not None and row[3] - before[3] > 60 * minutes:
                number, before = number + 1, None
            if not (drop_repeats and before is not None and row[1] == before[1]):
                made.append((user if minutes is None else f"{user}:{number}", *row[1:]))
            before = row
    return made


@settings(deadline=None, max_examples=150)
@given(
    drawn=rows(ID),
    minutes=st.sampled_from([None, 0, 1 / 60, 2 / 60]),
    drop_repeats=st.booleans(),
    min_rating=st.sampled_from([None, 3]),
    k=st.sampled_from([None, 2]),
)
def test_sessions_and_repeats_against_the_slow_version(drawn, minutes, drop_repeats, min_rating, k):
    rated = [row for row in drawn if min_rating is None or row[2] >= min_rating]
    histories, items = slow_prepare(slow_sessions(rated, minutes, drop_repeats), True, None, k)
    if not histories:
        return
    arrays = prepare(raw_of(drawn), min_rating, k, "here", minutes, drop_repeats)
    assert arrays["user_ids"].tolist() == [user for user, _ in histories]
    assert arrays["offsets"].tolist() == np.cumsum([0] + [len(history) for _, history in histories]).tolist()
    found = list(zip(arrays["item_ids"][arrays["items"]].tolist(), arrays["times"].tolist(), strict=True))
    assert found == [pair for _, history in histories for pair in history]
    assert arrays["item_ids"][1:].tolist() == items


def test_repeats_of_a_file_without_times():
    rows = [(1, item, 5.0, 0) for item in (4, 4, 2, 4, 4)] + [(2, 4, 5.0, 0)]
    arrays = prepare(raw_of(rows, timed=False), None, None, "here", drop_repeats=True)
    assert arrays["item_ids"][arrays["items"]].tolist() == [4, 2, 4, 4]
    with pytest.raises(UserError, match=r"dataset\.session_minutes=30: here has no times"):
        prepare(raw_of(rows, timed=False), None, None, "here", session_minutes=30)


def test_sessions_need_seconds():
    rows = [(1, item, 5.0, 1_600_000_000_000 + 60_000 * item) for item in range(3)]
    with pytest.raises(UserError, match=r"dataset\.session_minutes=30: .*dataset\.time_unit"):
        prepare(raw_of(rows), None, None, "here", session_minutes=30)


def test_what_filters_drop_is_logged(caplog):
    caplog.set_level("INFO", logger="seqrec")
    rows = [(1, item, 5.0, 100 * time) for time, item in zip((0, 1, 2, 3, 5), (4, 4, 2, 4, 4), strict=True)]
    rows += [(2, 4, 1.0, 0), (3, 9, 5.0, 0)]
    prepare(raw_of(rows), 2, 2, "here", 2, True)
    told = [
        "min_rating drops 1 of 7",
        "session_minutes=2 makes 3 sequences of 2 users",
        "drop_repeats drops 1 of 6",
        "k_core drops 3 of 5",
    ]
    assert [message for message, words in zip(caplog.messages, told, strict=True) if words not in message] == []


def test_users_do_not_depend_on_the_order_of_lines():
    rows = [(3, 1, 5.0, 1), (1, 2, 5.0, 1), (3, 2, 5.0, 0), (2, 1, 5.0, 4)]
    once = prepare(raw_of(rows), None, None, "here")
    again = prepare(raw_of(rows[::-1]), None, None, "here")
    assert once.keys() == again.keys()
    assert all(np.array_equal(once[name], again[name]) for name in once)


def test_ties_keep_file_order():
    rows = [(1, item, 5.0, 7) for item in (9, 3, 5, 3, 1)]
    arrays = prepare(raw_of(rows), None, None, "here")
    assert arrays["item_ids"][arrays["items"]].tolist() == [9, 3, 5, 3, 1]


def test_dense_items_keep_their_numbers():
    items = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 101), 3))
    rows = [(user, item, 5.0, 0) for user, item in zip(np.arange(300) % 7, items.tolist(), strict=True)]
    arrays = prepare(raw_of(rows, timed=False), None, None, "here")
    assert arrays["item_ids"].tolist() == list(range(101))
    expected = [item for user in range(7) for item in items[user::7]]
    assert arrays["items"].tolist() == expected


def test_core_unravels_a_chain_link_by_link():
    # Users and items form a path u0-i0-u1-i1-...: only its end breaks at first, and each round takes one link more.
    links = np.arange(50)
    user, item = np.concatenate((links, links + 1)), np.concatenate((links, links))
    assert core(user, item, 2).tolist() == []
    closed_user, closed_item = np.append(user, [0, 50]), np.append(item, [50, 50])  # a ring has no end
    assert core(closed_user, closed_item, 2).tolist() == list(range(102))


def test_core_counts_repeats():
    assert core(np.array([0, 0, 1]), np.array([0, 0, 1]), 2).tolist() == [0, 1]
