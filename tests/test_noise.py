"""Noise operators: what each does, and the rules that all keep."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec.data.sequences import Sequences
from seqrec.noise.foreign_items import SOURCES, ForeignItems
from seqrec.noise.plan import COUNT, ITEM, POSITION, SHIFT, corrupt
from seqrec.noise.registry import OPERATORS, WHERE, NoiseSettings, Operator, operator
from seqrec.utils.errors import UserError
from seqrec.utils.keyed_random import user_keys

ITEMS = 40
BUILT_IN = ("insert", "replace", "delete", "swap", "shuffle", "truncate", "burst")


def sequences(rows):
    lengths = np.array([len(row) for row in rows])
    stop = np.cumsum(lengths)
    return Sequences(np.array([item for row in rows for item in row], np.int32), stop - lengths, stop)


def run(rows, operator, ratio, seed=1, keys=None, source="uniform", power=1.0, **options):
    """Return noisy rows and their labels as lists."""
    packed = sequences(rows)
    keys = user_keys(np.arange(len(rows))) if keys is None else keys
    operators = [operator] if isinstance(operator, str) else operator
    foreign = ForeignItems(packed, keys, ITEMS, source, power)
    done = corrupt(packed, keys, NoiseSettings(operators, ratio, **options), seed, foreign)
    cut = [slice(a, b) for a, b in zip(done.rows.start, done.rows.stop, strict=True)]
    return [done.rows.items[c].tolist() for c in cut], [done.noise[c].tolist() for c in cut], done.counts


def is_part(short, long):
    rest = iter(long)
    return all(item in rest for item in short)


row_lists = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=6)
ratios = st.floats(0, 1)
seeds = st.integers(0, 1000)


@pytest.mark.parametrize("operator", BUILT_IN)
@settings(max_examples=60, deadline=None)
@given(rows=row_lists, ratio=ratios, seed=seeds, where=st.sampled_from(WHERE))
def test_every_operator_does_what_it_says(operator, rows, ratio, seed, where):
    found, labels, counts = run(rows, operator, ratio, seed, where=where, last=2)
    hits = 0
    for clean, noisy, label in zip(rows, found, labels, strict=True):
        assert len(noisy) >= 1
        assert len(label) == len(noisy)
        added = [item for item, bad in zip(noisy, label, strict=True) if bad]
        most = int(np.floor(ratio * len(clean) + 1))
        if operator == "insert":
            assert [item for item, bad in zip(noisy, label, strict=True) if not bad] == clean
            assert not set(added) & set(clean)
            hits += len(added)
            assert len(added) <= most
        elif operator == "replace":
            assert len(noisy) == len(clean)
            assert all((a == b) != bad for a, b, bad in zip(clean, noisy, label, strict=True))
            assert not set(added) & set(clean)
            hits += len(added)
            assert len(added) <= most
        elif operator in ("delete", "truncate"):
            assert is_part(noisy, clean)
            hits += len(clean) - len(noisy)
            assert len(clean) - len(noisy) <= most
        elif operator in ("swap", "shuffle"):
            assert sorted(noisy) == sorted(clean)
            assert sum(a != b for a, b in zip(clean, noisy, strict=True)) <= most + 1
        else:
            assert is_part(clean, noisy)
            assert set(added) <= set(clean)
            assert len(set(added)) <= 1
            hits += len(noisy) - len(clean)
            assert len(added) == len(noisy) - len(clean) <= most
    if operator not in ("swap", "shuffle"):
        assert counts == {operator: hits}


@pytest.mark.parametrize("operator", BUILT_IN)
@settings(max_examples=40, deadline=None)
@given(rows=row_lists, pair=st.tuples(ratios, ratios), seed=seeds)
def test_a_lower_ratio_is_contained_in_a_higher_one(operator, rows, pair, seed):
    distinct = [list(dict.fromkeys(row)) for row in rows]
    (low, low_label, _), (high, high_label, _) = (run(distinct, operator, ratio, seed) for ratio in sorted(pair))
    for row, label, longer, more in zip(low, low_label, high, high_label, strict=True):
        if operator in ("insert", "burst"):
            assert is_part(row, longer)
        elif operator == "replace":
            assert all(more[slot] and row[slot] == longer[slot] for slot in range(len(row)) if label[slot])
        elif operator in ("delete", "truncate"):
            assert is_part(longer, row)
    if operator == "swap":
        for clean, row, longer in zip(distinct, low, high, strict=True):
            assert all(row[slot] == longer[slot] for slot in range(len(row)) if row[slot] != clean[slot])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("operator", [*OPERATORS, ("insert", "replace", "delete", "swap")])
@settings(max_examples=15, deadline=None)
@given(rows=row_lists, ratio=ratios, seed=seeds, order=st.randoms(use_true_random=False))
def test_a_row_gets_the_same_noise_in_any_order_and_alone(operator, source, rows, ratio, seed, order):
    packed = sequences(rows)
    keys = user_keys(np.array([f"user {number}" for number in range(len(rows))], object))
    names = [operator] if isinstance(operator, str) else operator

    def noisy(chosen, train):
        foreign = ForeignItems(packed.take(train), keys[train], ITEMS, source, 1.0)
        done = corrupt(packed.take(chosen), keys[chosen], NoiseSettings(names, ratio), seed, foreign)
        return [done.rows.items[a:b].tolist() for a, b in zip(done.rows.start, done.rows.stop, strict=True)]

    straight, permuted = np.arange(len(rows)), list(range(len(rows)))
    whole = noisy(straight, straight)
    order.shuffle(permuted)
    assert noisy(np.array(permuted), np.array(permuted)) == [whole[row] for row in permuted]
    assert noisy(np.array([0]), straight) == whole[:1]


@pytest.mark.parametrize("operator", [*OPERATORS, list(OPERATORS)])
def test_ratio_zero_changes_nothing(operator):
    rows = [[1, 2, 3, 4], [5], [6, 7]]
    found, labels, counts = run(rows, operator, 0.0)
    assert found == rows
    assert not any(map(any, labels))
    assert not any(counts.values())


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_counts_are_unbiased_for_short_rows(operator, ratio):
    rows = [[1, 2, 3, 4, 5, 6, 7]] * 4000
    _, _, counts = run(rows, operator, ratio)
    wanted = ratio * 7 * len(rows)
    assert counts[operator] == pytest.approx(wanted, rel=0.03)


def test_every_gap_and_every_slot_is_hit_alike():
    rows = [[1, 2, 3]] * 6000
    _, labels, _ = run(rows, "insert", 1 / 3)
    gaps = np.array([label.index(True) for label in labels if any(label)])
    assert np.bincount(gaps, minlength=4) / len(gaps) == pytest.approx([0.25] * 4, abs=0.02)
    _, labels, _ = run(rows, "replace", 1 / 3)
    slots = np.array([label.index(True) for label in labels if any(label)])
    assert np.bincount(slots, minlength=3) / len(slots) == pytest.approx([1 / 3] * 3, abs=0.02)


ZONES = {
    "begin": lambda n: range(0, math.ceil(n / 3)),
    "middle": lambda n: range(n // 3, n - n // 3),
    "end": lambda n: range(n - math.ceil(n / 3), n),
    "last": lambda n: range(max(n - 2, 0), n),
    "anywhere": range,
}


@pytest.mark.parametrize("length", [1, 2, 4, 6, 11])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("operator", "window"), [("replace", None), ("swap", None), ("shuffle", 2), ("shuffle", 3)])
def test_where_bounds_the_slots_and_reaches_all_of_them(operator, window, where, length):
    clean = list(range(1, length + 1))
    found, _, _ = run([clean] * 300, operator, 1.0, where=where, last=2, window=window)
    hit = {slot for noisy in found for slot in range(length) if noisy[slot] != clean[slot]}
    zone = set(ZONES[where](length))
    assert hit == (zone if operator == "replace" or len(zone) > 1 else set())


@pytest.mark.parametrize("where", WHERE)
def test_every_zone_gets_as_much_noise(where):
    rows = [[1, 2, 3, 4, 5, 6][:length] for length in range(2, 7)] * 400
    for name in ("replace", "insert", "burst"):
        assert run(rows, name, 0.2, where=where, last=2)[2][name] == pytest.approx(0.2 * 8000, rel=0.04)


@pytest.mark.parametrize(
    "operators", [("insert", "replace", "delete", "swap"), ("swap", "delete"), ("shuffle", "replace")]
)
def test_a_mix_is_nested_too(operators):
    rows = [list(range(1, 13))] * 400
    (low, label, _), (high, more, _) = (run(rows, list(operators), ratio) for ratio in (0.2, 0.6))
    for row, bad, longer, worse in zip(low, label, high, more, strict=True):
        clean = set(range(1, 13))
        assert set(longer) & clean <= set(row) & clean  # what is gone stays gone
        if not {"replace", "delete"} <= set(operators):  # what was put in another's place may be removed later
            assert {i for i, b in zip(row, bad, strict=True) if b} <= {
                i for i, b in zip(longer, worse, strict=True) if b
            }


def test_items_that_were_noise_before_stay_labelled():
    packed = sequences([[1, 2, 3, 4]] * 50)
    keys, labels = user_keys(np.arange(50)), packed.items == 3
    foreign = ForeignItems(packed, keys, ITEMS, "uniform", 1.0)
    for name in ("delete", "swap", "shuffle", "truncate"):
        done = corrupt(packed, keys, NoiseSettings([name], 0.5), 1, foreign, labels=labels)
        assert np.array_equal(done.noise, done.rows.items == 3)
    done = corrupt(packed, keys, NoiseSettings(["insert"], 0.5), 1, foreign, labels=labels)
    assert np.array_equal(done.noise, (done.rows.items == 3) | (done.rows.items > 4))


def test_a_stretch_begins_anywhere_alike():
    found, _, _ = run([[1, 2, 3, 4]] * 6000, "truncate", 0.5)
    begins = np.array([{(3, 4): 0, (1, 4): 1, (1, 2): 2}[tuple(row)] for row in found])
    assert np.bincount(begins) / len(begins) == pytest.approx([1 / 3] * 3, abs=0.02)


@pytest.mark.parametrize(("where", "left"), [("begin", [4, 5, 6]), ("end", [1, 2, 3])])
def test_truncation_cuts_a_stretch(where, left):
    found, _, _ = run([[1, 2, 3, 4, 5, 6]] * 5, "truncate", 0.5, where=where)
    assert found == [left] * 5


def test_a_window_is_shuffled_within_itself():
    rows = [list(range(1, 13))] * 200
    found, _, counts = run(rows, "shuffle", 0.5, window=3)
    for clean, noisy in zip(rows, found, strict=True):
        moved = [a - b for a, b in zip(clean, noisy, strict=True)]
        assert max(map(abs, moved)) <= 2
    assert counts["shuffle"] == pytest.approx(0.5 * 12 * 200, rel=0.05)
    assert run([[1, 2, 3, 4, 5, 6, 7, 8]] * 3, "shuffle", 1.0)[2] == {"shuffle": 24}


def test_a_row_with_every_item_cannot_get_a_foreign_one():
    with pytest.raises(UserError, match="no item found"):
        run([list(range(1, ITEMS + 1))], "insert", 0.5)


def test_an_operator_of_other_arguments_is_refused(monkeypatch):
    def wrong(plan, ratio):
        return 0

    monkeypatch.setitem(OPERATORS, "wrong", Operator(99, wrong, moves=False))
    with pytest.raises(UserError, match=r"noise\.operators=wrong: .*wrong\(plan, ratio\)"):
        NoiseSettings(["insert", "wrong"], 0.1)


def test_operators_of_a_mix_count_and_choose_apart():
    """One number for both would put the second operator where the first is, and in the same rows alone."""
    short = [[row % 30 + 1] for row in range(2000)]
    inserted = [len(noisy) - 1 for noisy in run(short, "insert", 0.5)[0]]
    repeated = [len(noisy) - 1 for noisy in run(short, "burst", 0.5)[0]]
    assert np.mean(np.equal(inserted, repeated)) == pytest.approx(0.5, abs=0.05)
    long = [list(range(1, 11))] * 2000
    replaced = [noise.index(True) for noise in run(long, "replace", 0.1)[1]]
    deleted = [(set(range(1, 11)) - set(noisy)).pop() - 1 for noisy in run(long, "delete", 0.1)[0]]
    assert np.mean(np.equal(replaced, deleted)) == pytest.approx(0.1, abs=0.03)


def test_the_foreign_items_of_a_row_are_drawn_apart():
    found = run([list(range(1, 11))] * 200, "replace", 1.0)[0]
    assert np.mean([len(set(noisy)) for noisy in found]) == pytest.approx(30 * (1 - (29 / 30) ** 10), abs=0.3)


def test_a_repeated_item_stands_behind_the_one_it_repeats():
    found, labels, _ = run([[1, 2, 3, 4, 5]] * 20, "burst", 0.2)
    for noisy, noise in zip(found, labels, strict=True):
        assert [item for item, bad in zip(noisy, noise, strict=True) if not bad] == [1, 2, 3, 4, 5]
        at = noise.index(True)
        assert noisy[at] == noisy[at - 1]
        assert not noise[0]


def test_a_donor_is_kept_while_its_items_are_the_rows_own():
    """Ten donors with three items each; a row has the first of each, so that a third of the proposals fails."""
    donors = [[3 * d + 1, 3 * d + 2, 3 * d + 3] for d in range(10)]
    row = [3 * d + 1 for d in range(10)]
    alike = []
    for seed in range(60):
        found, _, _ = run([*donors, row], "replace", 1.0, seed=seed, source="donor")
        alike.extend(np.diff([(item - 1) // 3 for item in found[10]]) == 0)
    assert np.mean(alike) > 0.75  # about half if a failed proposal took another donor


@pytest.mark.parametrize(("name", "number"), [("insert", 50), ("something", 0), ("something", 100), ("something", -1)])
def test_an_operator_needs_a_name_and_a_number_of_its_own(name, number):
    def act(plan):
        return 0

    act.__name__ = name
    before = dict(OPERATORS)
    with pytest.raises(UserError, match="noise operator"):
        operator(number)(act)
    assert before == OPERATORS


def test_random_numbers_of_an_operator_are_drawn_apart():
    assert len({COUNT, POSITION, ITEM, SHIFT}) == 4
