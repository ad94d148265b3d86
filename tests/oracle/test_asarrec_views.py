"""AsarRec's views and what its objectives measure on them, against plain loops written from the equations."""

import math
from itertools import pairwise

import pytest
import torch
from matrix_setting import K, random_soft, rows

from seqrec.methods.asarrec import matrices, objectives, views

# --- the rows [padding][candidates][history] -------------------------------------------------------------------


def test_candidates_stand_directly_left_of_the_history_the_best_one_nearest():
    made = rows([4, 2])
    assert made.items.tolist() == [[93, 92, 91, 1, 2, 3, 4], [0, 0, 93, 92, 91, 1, 2]]
    assert made.original.tolist() == [[False] * 3 + [True] * 4, [False] * 5 + [True] * 2]
    assert made.target.tolist() == [[True] * 7, [False] * 2 + [True] * 5]


def test_a_cut_leaves_out_the_padding_that_its_rows_share():
    made = rows([6, 4, 3]).cut(slice(1, 3))
    assert made.items.tolist() == [[93, 92, 91, 1, 2, 3, 4], [0, 93, 92, 91, 1, 2, 3]]
    assert made.original.sum(1).tolist() == [4, 3]


def test_groups_cover_all_rows_in_order_and_hold_rows_of_like_length():
    lengths = torch.tensor([50, 49, 20, 9, 9, 8, 7, 3, 3])
    found = matrices.groups(lengths + 5, shrink=0.65)
    assert [list(range(len(lengths)))[part] for part in found] == [[0, 1], [2], [3, 4, 5, 6], [7, 8]]
    for part in found:
        widths = lengths[part] + 5
        assert widths.min() >= 0.65 * widths.max()
    assert matrices.groups(torch.tensor([4])) == [slice(0, 1)]


# --- views -----------------------------------------------------------------------------------------------------


def matrix_of(size, moves):
    hard = torch.zeros(size, size)
    for i, j in moves:
        hard[i, j] = 1
    return hard


def both(hard, other=None):
    return torch.stack([hard, hard if other is None else other])[None]


# A history a b c d with candidates z y x to its left: sources and targets 0..2 are candidates, 3..6 the history.
OPERATORS = {
    "crop": ([(4, 4), (5, 5)], [0, 0, 0, 0, 2, 3, 0]),
    "mask": ([(3, 3), (5, 5), (6, 6)], [0, 0, 0, 1, 0, 3, 4]),
    "reorder": ([(3, 3), (4, 5), (5, 4), (6, 6)], [0, 0, 0, 1, 3, 2, 4]),
    "insert": ([(3, 2), (4, 3), (2, 4), (5, 5), (6, 6)], [0, 0, 1, 2, 91, 3, 4]),
    "substitute": ([(3, 3), (1, 4), (5, 5), (6, 6)], [0, 0, 0, 1, 92, 3, 4]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_all_five_operators_are_matrices(name):
    moves, expected = OPERATORS[name]
    extended, hard = rows([4]), matrix_of(7, moves)
    made = views.hard_views(extended, views.sources(both(hard), 7), 0.2, compact=False)
    assert made.items(extended)[0, 0].tolist() == expected
    literal = [0] * 7
    for i in range(7):
        for j in range(7):
            literal[j] += int(hard[i, j]) * int(extended.items[0, i])  # X' = M^T X
    assert literal == expected


def test_compact_views_close_the_holes_and_keep_the_order():
    moves, _ = OPERATORS["mask"]
    extended = rows([4])
    made = views.hard_views(extended, views.sources(both(matrix_of(7, moves)), 7), 0.2, compact=True)
    assert made.items(extended)[0, 0].tolist() == [0, 0, 0, 0, 1, 3, 4]
    embedding = torch.arange(14.0).view(1, 1, 7, 2).expand(1, 2, 7, 2)
    assert made.arrange(embedding)[0, 0, 4:, 0].tolist() == [6.0, 10.0, 12.0]


def test_sources_count_from_the_wide_row():
    hard = matrix_of(7, OPERATORS["reorder"][0])
    assert views.sources(both(hard), 9)[0, 0].tolist() == [-1, -1, -1, -1, -1, 5, 7, 6, 8]


@pytest.mark.parametrize(
    ("length", "kept", "fallback"), [(3, 0, True), (3, 1, False), (5, 1, False), (6, 1, True), (6, 2, False), (10, 2, False), (11, 2, True)]
)  # fmt: skip
def test_a_view_that_keeps_too_little_of_the_history_is_the_identity(length, kept, fallback):
    extended = rows([length])
    size = length + K
    inserted = [(0, 3), (1, 4)] if kept == 0 else []  # candidates do not count
    poor = matrix_of(size, [(slot, slot) for slot in range(size - kept, size)] + inserted)
    rich = matrix_of(size, [(slot, slot) for slot in range(K, size)])
    made = views.hard_views(extended, views.sources(both(poor, rich), size), 0.2, compact=False)
    assert made.fallback[0].tolist() == [fallback, False]
    identity = [0] * K + list(range(1, length + 1))
    assert (made.items(extended)[0, 0].tolist() == identity) is fallback
    assert made.items(extended)[0, 1].tolist() == identity


def test_shares_of_dropped_moved_and_inserted_items():
    extended = rows([4])
    hard, other = matrix_of(7, OPERATORS["insert"][0]), matrix_of(7, OPERATORS["crop"][0])
    found = views.fractions(extended, views.sources(both(hard, other), 7))
    assert {name: float(value) for name, value in found.items()} == {
        "dropped": 2 / 8,
        "moved": 2 / 8,
        "inserted": 1 / 8,
    }


# --- objectives ------------------------------------------------------------------------------------------------


def slow_ndcg(matrix, n, offset, variant):
    """Positions 1..n of the history; source or target at matrix index p stands at position p - offset + 1."""
    size = len(matrix)
    total = ideal = 0.0
    for i in range(1, n + 1):
        w = {"D": 1 / math.log2(n - i + 2), "C": 1.0, "A": i / n}[variant]
        ideal += w * (1 / math.log2(n - i + 2) if variant == "A" else 1.0)
        for slot in range(size):
            j = slot - offset + 1
            gain = 1 / math.log2(n - j + 2) if variant == "A" else 1 / math.log2(abs(i - j) + 2)
            total += float(matrix[offset + i - 1, slot]) * w * gain
    return total / ideal


def slow_worst(n, variant, budget):
    value = [
        {"D": 1 / math.log2(n - i + 2), "C": 1.0, "A": i / n / math.log2(n - i + 2)}[variant] for i in range(1, n + 1)
    ]
    m = max(1, math.ceil(round(budget * n, 6)))
    return 1 - sum(sorted(value)[-m:]) / sum(value)


@pytest.mark.parametrize("variant", ["D", "C", "A"])
def test_ndcg_and_its_worst_case_follow_their_equations(variant):
    generator = torch.Generator().manual_seed(5)
    lengths = [7, 5, 3]
    extended = rows(lengths)
    soft = random_soft(3, 2, 10, 10, generator=generator)
    found = objectives.sequence_ndcg(soft, extended.original, variant)
    for row, n in enumerate(lengths):
        for view in range(2):
            assert float(found[row, view]) == pytest.approx(slow_ndcg(soft[row, view], n, 10 - n, variant), rel=1e-5)
    for budget in (0.1, 0.25, 0.5):
        worst = objectives.worst_ndcg(extended.original, variant, budget)
        assert worst.tolist() == pytest.approx([slow_worst(n, variant, budget) for n in lengths], rel=1e-5)


def only(n):
    return torch.ones(1, n, dtype=torch.bool)


def ndcg(matrix, variant="D"):
    return float(objectives.sequence_ndcg(both(matrix), only(len(matrix)), variant)[0, 0])


def worst(n, variant="D", budget=0.1):
    return float(objectives.worst_ndcg(only(n), variant, budget))


def test_ndcg_has_the_values_of_the_page():
    reverse, identity = torch.eye(8).flip(0), torch.eye(8)
    assert ndcg(identity) == ndcg(identity, "C") == pytest.approx(1)
    assert ndcg(reverse) == pytest.approx(0.416, abs=5e-4)
    assert ndcg(reverse, "C") == pytest.approx(0.433, abs=5e-4)
    assert ndcg(reverse, "A") == pytest.approx(0.681, abs=5e-4)
    assert worst(8) == pytest.approx(0.747, abs=5e-4)
    assert worst(8, "C") == 0.875
    assert worst(8, "A") == pytest.approx(0.622, abs=5e-4)
    assert worst(20) == pytest.approx(0.768, abs=5e-4)
    assert worst(50) == pytest.approx(0.771, abs=5e-4)
    for swap in range(7):
        order = list(range(8))
        order[swap], order[swap + 1] = order[swap + 1], order[swap]
        assert 0.85 - 5e-3 < ndcg(identity[order]) < 0.94 + 5e-3


def test_the_worst_case_is_the_removal_of_the_heaviest_items():
    for n in (3, 8, 11, 30):
        m = max(1, math.ceil(round(0.1 * n, 6)))
        removal = torch.eye(n)
        removal[n - m :] = 0
        assert ndcg(removal) == pytest.approx(worst(n), rel=1e-5)


def test_the_worst_case_falls_with_the_budget_and_at_11_21_31_items():
    by_budget = [worst(20, budget=budget) for budget in (0.05, 0.1, 0.2, 0.4, 0.8)]
    assert by_budget == sorted(by_budget, reverse=True)
    by_length = [worst(n) for n in range(3, 61)]
    drops = [n for n, (before, now) in enumerate(pairwise(by_length), 4) if now < before]
    assert drops == [11, 21, 31, 41, 51]


def test_distance_follows_its_equation():
    extended = rows([4, 3])
    soft = random_soft(2, 2, 7, 7, generator=torch.Generator().manual_seed(6))
    found = objectives.distance(soft, extended.original)
    for row, n in enumerate((4, 3)):
        slow = sum((float(soft[row, 0, i, j]) - float(soft[row, 1, i, j])) ** 2 for i in range(7) for j in range(7))
        assert float(found[row]) == pytest.approx(slow / (2 * n), rel=1e-5)


def test_the_distance_of_hard_views_counts_what_is_done_to_one_of_them():
    """One removal of n items is 1 / 2n, one move 2 / 2n."""
    original = only(5)
    removal, move = torch.eye(5), torch.eye(5)[[1, 0, 2, 3, 4]]
    removal[2] = 0
    assert float(objectives.distance(both(torch.eye(5), removal), original)) == pytest.approx(0.1)
    assert float(objectives.distance(both(torch.eye(5), move), original)) == pytest.approx(0.4)


def test_the_distance_of_equal_matrices_has_a_finite_gradient():
    soft = torch.rand(1, 2, 4, 4)
    soft[:, 1] = soft[:, 0]
    soft.requires_grad_()
    objectives.distance(soft, only(4)).sum().backward()
    assert torch.isfinite(soft.grad).all()
