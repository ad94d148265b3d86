"""The items that AsarRec may insert, against plain loops."""

import numpy as np
import pytest
import scipy.sparse
import torch

from seqrec.batch import Batch
from seqrec.data.loader import TrainLoader
from seqrec.data.sequences import Sequences
from seqrec.data.similarity import item_cf_iuf
from seqrec.methods.asarrec.candidates import Candidates, largest

ITEMS = 40


@pytest.fixture
def train(sequences_of):
    """Rows of popular items, two of them too short to be trained on; users 0 and 1 meet an item again."""
    generator = np.random.default_rng(1)
    weight = 1 / np.arange(1, ITEMS - 3)  # the last items are in no row
    rows = [
        generator.choice(ITEMS - 4, length, replace=False, p=weight / weight.sum()) + 1
        for length in (14, 9, 7, 5, 4, 12, 3, 2, 1, 6, 6, 8)
    ]
    rows[0] = np.append(rows[0], rows[0][2])
    rows[1] = np.append(rows[1], rows[1][-1])
    return sequences_of([row.tolist() for row in rows])


def candidates(train, source="similar", count=3, recent=4):
    made = Candidates(ITEMS, count, source, recent)
    made.setup(train)
    return made


def slow_similar(train, user, recent, count):
    similarity = item_cf_iuf(train, ITEMS).rows(np.arange(ITEMS + 1)).toarray()
    own = set(train.items[train.start[user] : train.stop[user]].tolist())
    score = {
        item: sum(float(similarity[other, item]) for other in recent) for item in range(1, ITEMS + 1) if item not in own
    }
    ranked = sorted((item for item in score if score[item] > 0), key=lambda item: (-round(score[item], 5), item))
    return (ranked + [0] * count)[:count]


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("recent", [4, 8])
def test_similar_items_are_the_nearest_to_the_last_items_of_the_row(train, prefixes, recent):
    made = candidates(train, recent=recent)
    checked = 0
    for batch in TrainLoader(train, 16, 8, seed=1, prefixes=prefixes).epoch(0):
        rows = torch.arange(len(batch.seq)).flip(0)
        for row, found in zip(rows.tolist(), made(batch, rows).tolist(), strict=True):
            history = [item for item in batch.seq[row].tolist() if item]
            assert found == slow_similar(train, int(batch.user[row]), history[-recent:], 3)
            assert prefixes or found == made.table[batch.user[row]].tolist()
            checked += 1
    assert checked == (57 if prefixes else 11)


def test_nothing_after_the_training_part_is_looked_at(train):
    """The flat array goes on with validation and test items after each row; they change nothing and may be chosen."""

    def with_future(item):
        rows = [train.items[a:b].tolist() for a, b in zip(train.start, train.stop, strict=True)]
        flat = np.array([value for row in rows for value in [*row, item, item + 1]], np.int32)
        start = np.cumsum([0] + [len(row) + 2 for row in rows[:-1]])
        return Sequences(flat, start, start + train.lengths)

    one, other = candidates(with_future(1)), candidates(with_future(7))
    assert torch.equal(one.table, other.table)
    assert torch.equal(one.table, candidates(train).table)
    for source in ("random", "popularity"):
        one, other = candidates(with_future(1), source), candidates(with_future(7), source)
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.own, other.own)


@pytest.mark.parametrize("source", ["similar", "random", "popularity"])
def test_no_candidate_is_an_item_of_the_user_or_stands_twice(train, source):
    made = candidates(train, source, count=8)
    torch.manual_seed(0)
    seen = 0
    for prefixes in (False, True):
        for batch in TrainLoader(train, 64, 50, seed=1, prefixes=prefixes).epoch(0):
            for row, found in enumerate(made(batch, torch.arange(len(batch.seq))).tolist()):
                user = int(batch.user[row])
                own = set(train.items[train.start[user] : train.stop[user]].tolist())
                chosen = [item for item in found if item]
                assert len(chosen) == len(set(chosen))
                assert not own & set(chosen)
                assert all(1 <= item <= ITEMS for item in chosen)
                seen += len(chosen)
    assert seen > 200


def test_drawn_items_change_and_follow_their_weights(train, sequences_of):
    counts = np.bincount(train.pairs()[1], minlength=ITEMS + 1)
    far = sequences_of([[ITEMS]])  # a user whose own item is in no other row
    together = Sequences(
        np.append(train.items, far.items), np.append(train.start, len(train.items)), np.append(train.stop, len(train.items) + 1)
    )  # fmt: skip
    user = torch.full((4000,), len(train))
    batch = Batch(user=user, seq=torch.zeros(4000, 1), target=torch.zeros(1), index=torch.zeros(1))
    for source, weight in (("random", np.ones(ITEMS + 1)), ("popularity", counts)):
        torch.manual_seed(0)
        made = candidates(together, source, count=1)
        drawn = made(batch, torch.arange(4000)).numpy()[:, 0]
        assert not np.array_equal(drawn, made(batch, torch.arange(4000)).numpy()[:, 0])
        wanted = weight[1:ITEMS] / (weight[1:ITEMS].sum() + 1)
        assert np.bincount(drawn, minlength=ITEMS + 1)[1:ITEMS] / 4000 == pytest.approx(wanted, abs=0.02)


def test_a_place_stays_empty_where_nothing_is_similar(sequences_of):
    made = candidates(sequences_of([[1, 2, 3], [4, 5, 6], [5, 6, 7]]))
    assert made.table.tolist() == [[0, 0, 0], [7, 0, 0], [4, 0, 0]]


def test_more_recent_items_than_the_whole_training_part_has(sequences_of):
    rows = sequences_of([[1, 2, 3], [2, 3, 4]])
    assert torch.equal(candidates(rows, recent=10).table, candidates(rows, recent=3).table)


def test_no_candidates_at_all(train):
    batch = next(TrainLoader(train, 4, 8, seed=1).epoch(0))
    for source in ("similar", "random"):
        assert candidates(train, source, count=0)(batch, torch.arange(4)).shape == (4, 0)


def test_the_largest_entries_of_sparse_rows():
    dense = np.array([[0, 3, 5, 3, 0.5], [0, 0, 0, 0, 0], [0, -1, 2, -4, 0], [0, 1, 1, 1, 1]])
    scores = scipy.sparse.csr_array(dense)
    assert largest(scores, 3).tolist() == [[2, 1, 3], [0, 0, 0], [2, 0, 0], [1, 2, 3]]
    assert largest(scipy.sparse.csr_array((2, 5)), 2).tolist() == [[0, 0], [0, 0]]


def slow_beside(train, user, item):
    """The nearest of the item's 20 nearest that the user does not have, or 0."""
    similarity = item_cf_iuf(train, ITEMS).rows(np.arange(ITEMS + 1)).toarray()
    own = set(train.items[train.start[user] : train.stop[user]].tolist())
    ranked = sorted(
        (j for j in range(1, ITEMS + 1) if similarity[item, j] > 0), key=lambda j: (-similarity[item, j], j)
    )
    return next((j for j in ranked[:20] if j not in own), 0)


@pytest.mark.parametrize("prefixes", [False, True])
def test_beside_an_item_stands_its_nearest_that_is_not_the_users(train, prefixes):
    some = train.take(np.arange(2, len(train)))  # whose items do not begin where the flat array does
    made = Candidates(ITEMS, 3, "similar", 4, "beside")
    made.setup(some)
    found = []
    for batch in TrainLoader(some, 16, 8, seed=1, prefixes=prefixes).epoch(0):
        rows = torch.arange(len(batch.seq)).flip(0)
        for row, candidates in zip(rows.tolist(), made(batch, rows).tolist(), strict=True):
            for item, candidate in zip(batch.seq[row].tolist(), candidates, strict=True):
                assert candidate == (slow_beside(some, int(batch.user[row]), item) if item else 0)
                found += [candidate] * (item > 0)
    assert 0 < found.count(0) < len(found)


def test_drawn_candidates_stand_beside_items_alone(train):
    made = Candidates(ITEMS, 3, "random", 4, "beside")
    made.setup(train)
    batch = next(TrainLoader(train, 16, 8, seed=1).epoch(0))
    found = made(batch, torch.arange(len(batch.seq)))
    assert found.shape == batch.seq.shape
    assert not found[batch.seq == 0].any()
    for row, user in zip(found, batch.user, strict=True):
        drawn = row[row > 0].tolist()
        assert len(set(drawn)) == len(drawn)
        assert not set(drawn) & set(train.items[train.start[user] : train.stop[user]].tolist())
