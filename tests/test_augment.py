import itertools
from collections import Counter

import pytest
import torch

from seqrec.augment import OPERATORS, Views, crop, insert, mask, reorder, substitute

DRAWS = 6000
SIMILAR = torch.tensor([0, *(item + 100 for item in range(1, 60)), *([1] * 200)])
SET = ["crop", "mask", "reorder", "substitute", "insert"]
RATIOS = {"crop": 0.6, "mask": 0.3, "reorder": 0.6, "substitute": 0.1, "insert": 0.4}


def left_padded(rows, width):
    return torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])


def views(**keys):
    given = {"max_len": 50, "long": SET, "short": SET[3:], "threshold": 4, "distinct": False, "released": False}
    return Views(**(given | RATIOS | keys))


# The operators of one row, literally: every result with its probability.


def literal_crop(row, ratio, released):
    size = int(ratio * len(row))
    last_start = len(row) - size - 1 if released else len(row) - max(size, 1)
    starts = range(last_start + 1)
    return Counter({tuple(row[s : s + max(size, 1)]): 1 / len(starts) for s in starts})


def literal_mask(row, ratio, released):
    chosen = list(itertools.combinations(range(len(row)), int(ratio * len(row))))
    return Counter({tuple(0 if i in c else item for i, item in enumerate(row)): 1 / len(chosen) for c in chosen})


def literal_reorder(row, ratio, released):
    size, outcome = int(ratio * len(row)), Counter()
    starts = range(len(row) - size + (0 if released else 1))
    for start in starts:
        orders = list(itertools.permutations(row[start : start + size]))
        for order in orders:
            result = row[:start] + list(order) + row[start + size :]
            outcome[tuple(result)] += 1 / len(starts) / len(orders)
    return outcome


def literal_substitute(row, ratio, released):
    chosen = list(itertools.combinations(range(len(row)), max(int(ratio * len(row)), 1)))
    return Counter({tuple(item + 100 * (i in c) for i, item in enumerate(row)): 1 / len(chosen) for c in chosen})


def literal_insert(row, ratio, released):
    chosen = list(itertools.combinations(range(len(row)), max(int(ratio * len(row)), 1)))
    return Counter(
        {
            tuple(x for i, item in enumerate(row) for x in ([item + 100] if i in c else []) + [item]): 1 / len(chosen)
            for c in chosen
        }
    )


CASES = [
    (crop, literal_crop, 0.2, 7),
    (crop, literal_crop, 0.2, 4),  # int(.2 * 4) = 0: a single item
    (crop, literal_crop, 0.6, 5),
    (crop, literal_crop, 0.6, 1),
    (mask, literal_mask, 0.7, 5),
    (mask, literal_mask, 0.3, 3),  # int(.3 * 3) = 0: nothing
    (mask, literal_mask, 0.3, 10),
    (reorder, literal_reorder, 0.7, 4),
    (reorder, literal_reorder, 0.6, 5),
    (reorder, literal_reorder, 0.2, 3),
    (reorder, literal_reorder, 0.7, 1),
    (substitute, literal_substitute, 0.1, 6),  # int(.1 * 6) = 0: one
    (substitute, literal_substitute, 0.5, 5),
    (insert, literal_insert, 0.4, 5),
    (insert, literal_insert, 0.4, 2),
    (insert, literal_insert, 0.4, 1),
]


def drawn(operator, batch, ratio, released):
    if operator in (crop, reorder):
        return operator(batch, ratio, released)
    return operator(batch, ratio, *([SIMILAR] if operator in (substitute, insert) else []))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("operator", "literal", "ratio", "length"), CASES)
def test_operator_has_the_outcomes_of_the_literal_rule_with_their_probabilities(
    operator, literal, ratio, length, released
):
    torch.manual_seed(length)
    row = list(range(11, 11 + length))
    result = drawn(operator, left_padded([row] * DRAWS, 12), ratio, released)
    expected = literal(row, ratio, released)
    width = len(next(iter(expected)))
    assert not result[:, :-width].any()  # right-aligned
    counts = Counter(map(tuple, result[:, -width:].tolist()))
    assert set(counts) <= set(expected)
    for outcome, probability in expected.items():
        sd = (DRAWS * probability * (1 - probability)) ** 0.5
        assert abs(counts[outcome] - DRAWS * probability) <= 5 * sd


@pytest.mark.parametrize("operator", [crop, mask, reorder, substitute, insert])
def test_rows_of_mixed_lengths_do_not_mix(operator):
    torch.manual_seed(0)
    rows = [[11], [21, 22], [31, 32, 33, 34, 35, 36, 37], list(range(41, 51))] * 50
    literal = globals()[f"literal_{operator.__name__}"]
    for row, view in zip(rows, drawn(operator, left_padded(rows, 10), 0.4, False).tolist(), strict=True):
        width = len(next(iter(expected := literal(row, 0.4, False))))
        assert tuple(view[-width:]) in expected
        assert not any(view[:-width])


@pytest.mark.parametrize("ratio", [0.29, 0.7, 0.1, 0.57])
def test_counts_are_those_of_python(ratio):
    # .29 * 100 is 28.999999999999996: single precision would round it up
    rows = [list(range(1, n + 1)) for n in range(1, 101)]
    masked = (mask(left_padded(rows, 100), ratio) > 0).sum(1)
    assert masked.tolist() == [n - int(ratio * n) for n in range(1, 101)]


def test_rows_are_drawn_apart():
    torch.manual_seed(0)
    for operator in (crop, mask, reorder, substitute, insert):
        result = drawn(operator, left_padded([list(range(1, 21))] * 8, 20), 0.4, False)
        assert len(set(map(tuple, result.tolist()))) > 1


def test_a_row_without_items_stays_empty():
    empty = torch.zeros(2, 4, dtype=torch.long)
    for operator in (crop, mask, reorder, substitute, insert):
        assert not drawn(operator, empty, 0.5, True).any()


def test_views_apply_the_drawn_operator_and_keep_the_newest_of_max_len():
    torch.manual_seed(0)
    rows = [list(range(1, 1 + n)) for n in torch.randint(1, 13, (400,)).tolist()]
    views_of = views(max_len=12)
    drawn_operators = []
    views_of.draw = lambda length: drawn_operators.extend(Views.draw(views_of, length)) or drawn_operators
    result, taken = views_of(left_padded(rows, 12), SIMILAR)
    assert result.shape == (800, 12)
    seen = set()
    for number, view, used, row in zip(torch.cat(drawn_operators), result, taken, rows * 2, strict=True):
        name = OPERATORS[number]
        outcomes = globals()[f"literal_{name}"](row, RATIOS[name], False)
        width = min(len(next(iter(outcomes))), 12)
        assert tuple(view[-width:].tolist()) in {outcome[-12:] for outcome in outcomes}
        assert not view[:-width].any()
        assert used.tolist() == [False] * (12 - width) + [True] * width  # holes are slots of the view
        seen.add((name, len(row) <= 4))
    assert seen == {(name, False) for name in SET} | {("substitute", True), ("insert", True)}


def test_views_get_as_wide_as_insertion_needs_and_no_wider_than_max_len():
    batch = left_padded([list(range(1, 11))] * 40, 10)
    assert views(max_len=50)(batch, SIMILAR)[0].shape == (80, 14)
    assert views(max_len=12)(batch, SIMILAR)[0].shape == (80, 12)
    assert views(long=SET[:3], short=[])(batch)[0].shape == (80, 10)


def test_the_second_view_belongs_to_the_same_row():
    rows = [[1, 2, 3], [11, 12, 13, 14, 15], [21, 22]]
    result, _ = views(long=["mask", "crop"], short=["reorder"])(left_padded(rows, 5))
    for row, view in zip(rows * 2, result.tolist(), strict=True):
        assert set(view) - {0} <= set(row)


def share(drawn, number):
    return (drawn == number).double().mean().item()


@pytest.mark.parametrize("distinct", [False, True])
def test_operators_are_uniform_over_the_set_of_the_length(distinct):
    torch.manual_seed(0)
    length = torch.tensor([4, 5]).repeat(20000)
    first, second = views(short=["substitute", "insert", "mask"], distinct=distinct).draw(length)
    for operators in (first, second):
        for number, name in enumerate(OPERATORS):
            short = 1 / 3 if name in ("substitute", "insert", "mask") else 0
            assert share(operators[::2], number) == pytest.approx(short, abs=0.015)
            assert share(operators[1::2], number) == pytest.approx(0.2, abs=0.015)
    same = (first == second).double()
    assert same[::2].mean().item() == pytest.approx(0 if distinct else 1 / 3, abs=0.015)
    assert same[1::2].mean().item() == pytest.approx(0 if distinct else 0.2, abs=0.015)
    for number in range(5):  # given the first operator, the others are alike
        others = second[1::2][first[1::2] == number]
        expected = 0.25 if distinct else 0.2
        for other in set(range(5)) - {number}:
            assert share(others, other) == pytest.approx(expected, abs=0.03)


def test_threshold_minus_1_makes_no_row_short_and_an_empty_set_leaves_rows_alone():
    assert (views(threshold=-1, short=[]).draw(torch.ones(50, dtype=torch.long))[0] >= 0).all()
    batch = left_padded([[1], [2, 3], [4, 5, 6, 7, 8]], 5)
    result, taken = views(short=[], long=[])(batch)
    assert torch.equal(result, batch.repeat(2, 1))
    assert torch.equal(taken, result > 0)


def test_released_code_reorders_at_the_ratio_of_mask_and_misses_the_newest_item():
    row = list(range(1, 11))
    batch = left_padded([row] * 500, 10)
    keys = {"short": [], "mask": 0.7, "reorder": 0.2, "crop": 0.2}
    moved = views(long=["reorder"], released=True, **keys)(batch)[0]
    assert (moved[:, -1] == 10).all()
    assert (moved != batch.repeat(2, 1)).sum(1).max() > 2
    assert (views(long=["reorder"], released=True, **keys, threshold=-1)(batch)[0] != batch.repeat(2, 1)).sum(
        1
    ).max() <= 2
    corrected = views(long=["reorder"], **keys)(batch)[0]
    assert (corrected != batch.repeat(2, 1)).sum(1).max() <= 2
    assert (corrected[:, -1] != 10).any()
    assert not (views(long=["crop"], released=True, **keys)(batch)[0] == 10).any()
    assert (views(long=["crop"], **keys)(batch)[0] == 10).any()


def test_only_sets_with_substitution_or_insertion_ask_for_similar_items():
    assert views(long=["crop"], short=["insert"]).informed
    assert views(long=["substitute"], short=[]).informed
    assert not views(long=["crop", "mask", "reorder"], short=["mask"]).informed


def test_two_views_by_the_same_operator_are_drawn_apart():
    torch.manual_seed(0)
    seq = left_padded([list(range(1, 41))] * 20, 40)
    for operator in SET:
        one, other = views(long=[operator], crop=0.3)(seq, SIMILAR)[0].chunk(2)
        assert (one != other).any(1).float().mean() > 0.8, operator
