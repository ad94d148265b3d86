"""Every matrix and feature of fusion against a literal loop."""

import math
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
import torch

from seqrec.fusion.features import FeatureSet
from seqrec.fusion.matrices import MATRICES, SMOOTHING, Counts, strongest

ITEMS, WINDOW, DECAY = 12, 3, 0.8
ROWS = [[1, 2, 3, 1, 5], [2, 3], [7], [], [3, 2, 1, 6, 6, 8, 9, 2, 4], [10, 11, 2, 3]]
SEQ = [[0, 0, 1, 2, 3], [4, 4, 12, 10, 2], [0, 0, 0, 0, 7]]
LIBRARY = {
    name: {"matrix": name, "decay": decay, "newest": newest, "constant": constant}
    for (name, decay, newest, constant) in zip(
        MATRICES,
        (0.5, 0.85, 1.0, 0.85, 0.0, 0.7, 0.9),
        (2, 20, 3, 4, 1, 5, 20),
        (0.1, 0.2, 1, 0.003, 0.1, 2, 0.01),
        strict=True,
    )
}


def transitions(window=WINDOW, decay=DECAY):
    table = defaultdict(float)
    for row in ROWS:
        for at, first in enumerate(row):
            for distance in range(1, window + 1):
                if at + distance < len(row):
                    table[first, row[at + distance]] += decay ** (distance - 1)
    return table


def normalised(table):
    rows, columns = defaultdict(float), defaultdict(float)
    for (i, j), value in table.items():
        rows[i] += value
        columns[j] += value
    return {(i, j): value / math.sqrt(rows[i] * columns[j]) for (i, j), value in table.items()}


def both_ways(table):
    pairs = defaultdict(float)
    for (i, j), value in table.items():
        pairs[i, j] += value
        pairs[j, i] += value
    return pairs


def same_users():
    total, users = defaultdict(float), defaultdict(int)
    for row in ROWS:
        for i in set(row):
            users[i] += 1
            for j in set(row) - {i}:
                total[i, j] += 1 / math.log(1 + len(set(row)))
    return {(i, j): value / math.sqrt(users[i] * users[j]) for (i, j), value in total.items()}


def conditional(table):
    rows = defaultdict(float)
    for (i, _), value in table.items():
        rows[i] += value
    return {(i, j): value / (rows[i] + SMOOTHING) for (i, j), value in table.items()}


LITERAL = {
    "transitions": transitions,
    "both_ways": lambda: both_ways(transitions()),
    "normalised": lambda: normalised(transitions()),
    "normalised_both_ways": lambda: normalised(both_ways(transitions())),
    "adjacent": lambda: transitions(window=1),
    "conditional": lambda: conditional(transitions()),
    "same_users": same_users,
}


def literal_feature(row, matrix, decay, newest, constant):
    """log(1 + (h M) / constant) of one history, for every item."""
    sums, history = [0.0] * (ITEMS + 1), [item for item in row if item][-newest:]
    table = LITERAL[matrix]()
    for age, item in enumerate(reversed(history)):
        for j in range(1, ITEMS + 1):
            sums[j] += decay**age * table.get((item, j), 0.0)
    return [math.log(1 + value / constant) for value in sums]


def features(names, **changes):
    made = FeatureSet(names, LIBRARY, **({"window": WINDOW, "decay": DECAY, "neighbours": 100} | changes))
    return made


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_is_its_definition(name, sequences_of):
    matrix = MATRICES[name](Counts(sequences_of(ROWS), ITEMS, WINDOW, DECAY, ITEMS)).toarray()
    expected = np.zeros((ITEMS + 1, ITEMS + 1))
    for at, value in LITERAL[name]().items():
        expected[at] = value
    assert matrix == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", MATRICES)
def test_a_feature_is_its_definition(name, sequences_of):
    made = features([name])
    made.setup(sequences_of(ROWS), ITEMS)
    (made,) = made.each(np.array(SEQ))
    expected = [literal_feature(row, **LIBRARY[name]) for row in SEQ]
    assert made.toarray() == pytest.approx(np.array(expected), abs=1e-5)


def test_aligned_features_are_the_same_at_common_cells(sequences_of):
    made = features([*MATRICES, "popularity"])
    made.setup(sequences_of(ROWS), ITEMS)
    aligned = made.aligned(torch.tensor(SEQ))
    assert (aligned.cell[1:] > aligned.cell[:-1]).all()
    for column, feature in enumerate(made.each(np.array(SEQ))):
        dense = torch.zeros(len(SEQ), ITEMS + 1)
        dense.view(-1)[aligned.cell] = aligned.value[:, column]
        assert torch.equal(dense, torch.from_numpy(feature.toarray()))


def test_popularity_counts_the_training_set(sequences_of):
    made = features(["popularity"])
    made.setup(sequences_of(ROWS), ITEMS)
    expected = [math.log(1 + sum(row.count(item) for row in ROWS)) if item else 0.0 for item in range(ITEMS + 1)]
    assert made.of_items[0].numpy() == pytest.approx(np.array(expected))


def test_rows_are_cut_to_their_strongest_neighbours(sequences_of):
    matrix = MATRICES["transitions"](Counts(sequences_of(ROWS), ITEMS, WINDOW, DECAY, ITEMS))
    assert (
        strongest(matrix, 2).indices.itemsize + strongest(matrix, 2).data.itemsize == 8
    )  # bytes, of which docs/fusion.md speaks
    cut, dense = strongest(matrix, 2).toarray(), matrix.toarray()
    for row, kept in zip(dense, cut, strict=True):
        order = sorted(range(len(row)), key=lambda column: (-row[column], column))[:2]
        assert kept.tolist() == [value if column in order else 0 for column, value in enumerate(row)]
    assert np.array_equal(strongest(matrix, 100).toarray(), dense)


@pytest.mark.slow
def test_users_of_the_same_items_need_no_square_of_memory(sequences_of):
    """One user with many items has all pairs of them; only the neighbours of each item are kept at a time."""
    items = 8000
    made = FeatureSet(["same_users"], LIBRARY, WINDOW, DECAY, 5)
    tracemalloc.start()
    made.setup(sequences_of([list(range(1, items + 1)), [1, 2], [2, 3]]), items)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.matrices["same_users"].nnz == 5 * items
    assert peak < 12 * items * items  # what all pairs take in sparse rows, 4 bytes an index and 8 a value
