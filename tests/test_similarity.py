import math
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse
import torch

from seqrec.data import similarity as similarity_module
from seqrec.data.sequences import Sequences
from seqrec.data.similarity import Nearest, embedding_top1, hybrid, item_cf_iuf, top1


def sequences(rows):
    lengths = np.array([len(row) for row in rows])
    stop = np.cumsum(lengths)
    return Sequences(np.array([item for row in rows for item in row], np.int32), stop - lengths, stop)


def literal(rows):
    together, held = defaultdict(float), defaultdict(int)
    for row in rows:
        for i in set(row):
            held[i] += 1
            for j in set(row):
                if i != j:
                    together[i, j] += 1 / math.log(1 + len(set(row)))
    return {(i, j): value / math.sqrt(held[i] * held[j]) for (i, j), value in together.items()}


def matrix_of(similarity):
    return scipy.sparse.vstack([rows for _, rows in similarity.blocks()], format="csr")


def random_rows(rng, users=40, items=25):
    return [list(rng.integers(1, items + 1, rng.integers(0, 9))) for _ in range(users)]


@pytest.mark.parametrize("seed", range(3))
def test_item_cf_iuf_is_the_literal_double_loop(seed):
    rows = random_rows(np.random.default_rng(seed))  # with empty rows and repeated items
    similarity = matrix_of(item_cf_iuf(sequences(rows), 30))
    dense, expected = similarity.toarray(), literal(rows)
    assert similarity.shape == (31, 31)
    assert similarity.dtype == np.float32
    assert similarity.nnz == len(expected)
    for (i, j), value in expected.items():
        assert dense[i, j] == pytest.approx(value, rel=1e-6)
    assert not dense.diagonal().any()
    assert not dense[0].any()
    assert not dense[:, 0].any()


def test_item_cf_iuf_by_hand():
    dense = matrix_of(item_cf_iuf(sequences([[1, 2], [1, 2, 3], [3, 3, 1]]), 3)).toarray()
    assert dense[1, 2] == pytest.approx((1 / math.log(3) + 1 / math.log(4)) / math.sqrt(3 * 2))
    assert dense[1, 3] == pytest.approx((1 / math.log(4) + 1 / math.log(3)) / math.sqrt(3 * 2))
    assert dense[3, 2] == pytest.approx(1 / math.log(4) / 2)


def test_item_cf_iuf_reads_only_its_rows():
    whole = sequences([[1, 2, 9, 8], [2, 3, 7, 9]])
    train = Sequences(whole.items, whole.start, whole.stop - 2)
    assert set(zip(*matrix_of(item_cf_iuf(train, 9)).nonzero(), strict=True)) == {(1, 2), (2, 1), (2, 3), (3, 2)}


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("data", "indices", "indptr"))


@pytest.mark.parametrize("block", [1, 7, 60])
def test_blocks_change_nothing(block, monkeypatch):
    train = sequences(random_rows(np.random.default_rng(5)))
    whole = item_cf_iuf(train, 30)
    matrix, nearest, near = matrix_of(whole), top1(whole), whole.nearest(3)
    monkeypatch.setattr(similarity_module, "BLOCK", block)
    parts = item_cf_iuf(train, 30)
    assert len(list(parts.blocks())) > 1
    assert same(matrix_of(parts), matrix)
    assert all(np.array_equal(one, other) for one, other in zip(parts.nearest(3), near, strict=True))
    again = top1(parts)
    known = np.diff(matrix.indptr) > 0
    assert torch.equal(again.item[known], nearest.item[known])
    assert torch.equal(again.score, nearest.score)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_nearest_are_the_first_of_each_row_sorted(count):
    rows = random_rows(np.random.default_rng(2), users=12)  # with many ties
    similarity = item_cf_iuf(sequences(rows), 30)
    dense = matrix_of(similarity).toarray()
    expected = [
        (item, other)
        for item in range(31)
        for other in sorted(np.flatnonzero(dense[item]), key=lambda other: (-dense[item, other], other))[:count]
    ]
    item, other, value = similarity.nearest(count)
    assert list(zip(item.tolist(), other.tolist(), strict=True)) == expected
    assert np.array_equal(value, dense[item, other])


@pytest.mark.parametrize("kept", [0, 10**6])
def test_sums_over_histories(kept, monkeypatch):
    monkeypatch.setattr(similarity_module, "MOST_KEPT", kept)
    monkeypatch.setattr(similarity_module, "BLOCK", 100)
    rng = np.random.default_rng(3)
    similarity = item_cf_iuf(sequences(random_rows(rng)), 30)
    histories = scipy.sparse.csr_array(rng.integers(0, 2, (9, 31)).astype(np.float32))
    parts = list(similarity.sums(histories))
    assert len(parts) == 1 if kept else len(parts) > 1
    assert np.concatenate([rows for rows, _ in parts]).tolist() == list(range(9))
    found = np.concatenate([sums.toarray() for _, sums in parts])
    assert found == pytest.approx(histories.toarray() @ matrix_of(similarity).toarray(), rel=1e-5)


@pytest.mark.parametrize("use", [top1, lambda similarity: similarity.nearest(20)], ids=["top1", "nearest"])
def test_one_long_history_does_not_fill_the_memory(use, monkeypatch):
    monkeypatch.setattr(similarity_module, "BLOCK", 2**16)
    similarity = item_cf_iuf(sequences([range(1, 2001), [5, 6, 7]]), 2000)
    tracemalloc.start()
    use(similarity)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 2000 * 4  # the values of all pairs alone


@pytest.mark.parametrize("seed", range(3))
def test_top1_is_the_largest_of_each_row_and_the_lowest_id_of_equals(seed):
    rows = random_rows(np.random.default_rng(seed))
    similarity = item_cf_iuf(sequences(rows), 30)
    matrix = matrix_of(similarity)
    nearest, dense = top1(similarity), matrix.toarray()
    least, largest = matrix.data.min(), matrix.data.max()
    for i in range(1, 31):
        if dense[i].any():
            best = max(range(31), key=lambda j: (dense[i, j], -j))
            assert nearest.item[i] == best
            assert nearest.score[i] == pytest.approx((dense[i, best] - least) / (largest - least), abs=1e-6)
    assert nearest.score.max() == 1
    assert nearest.item[0] == 0


def test_equal_counts_make_a_tie_that_the_lowest_id_wins():
    nearest = top1(item_cf_iuf(sequences([[5, 3, 4], [5, 4, 3], [5, 7, 2], [2, 7, 5]]), 7))
    assert nearest.item[5] == 2
    assert nearest.item[4] == 3


def test_an_unseen_item_gets_another_item_with_score_0_drawn_from_the_seed():
    similarity = item_cf_iuf(sequences([[1, 2], [2, 3]]), 400)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nearest = top1(similarity)
        draws.append(nearest.item[4:])
        assert (nearest.score[4:] == 0).all()
        assert (nearest.item[4:] != torch.arange(4, 401)).all()
        assert nearest.item[1:].min() >= 1
        assert nearest.item.max() <= 400
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert len(set(draws[0].tolist())) > 150  # spread over the catalogue


def test_the_draw_reaches_every_other_item_alike():
    torch.manual_seed(0)
    similarity = item_cf_iuf(sequences([[1, 2]]), 4)
    drawn = torch.stack([top1(similarity).item for _ in range(3000)])
    for item in (3, 4):
        count = torch.bincount(drawn[:, item], minlength=5)
        assert count[0] == count[item] == 0
        assert (count[[other for other in range(1, 5) if other != item]] - 1000).abs().max() < 120


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_embedding_top1_is_the_largest_product_with_another_item(chunk):
    table = torch.randint(-3, 4, (24, 5)).float()  # whole numbers: exact ties
    table[0] = 100  # padding must not be chosen, nor stretch the scale
    nearest = embedding_top1(table, chunk)
    products = (table[1:] @ table[1:].T).tolist()
    least, largest = min(map(min, products)), max(map(max, products))
    for i in range(23):
        best = max((j for j in range(23) if j != i), key=lambda j: (products[i][j], -j))
        assert nearest.item[i + 1] == best + 1
        assert nearest.score[i + 1] == pytest.approx((products[i][best] - least) / (largest - least), abs=1e-6)
    assert nearest.item[0] == 0


def test_hybrid_takes_the_larger_normalised_score_and_the_counted_one_when_equal():
    counted = Nearest(torch.tensor([0, 2, 3, 1]), torch.tensor([0.0, 0.4, 0.5, 0.1]))
    embedded = Nearest(torch.tensor([0, 3, 1, 2]), torch.tensor([0.0, 0.5, 0.5, 0.0]))
    assert hybrid(counted, embedded).tolist() == [0, 3, 3, 1]
