import math
from collections import defaultdict

import numpy as np
import pytest
import torch

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


def random_rows(rng, users=40, items=25):
    return [list(rng.integers(1, items + 1, rng.integers(0, 9))) for _ in range(users)]


@pytest.mark.parametrize("seed", range(3))
def test_item_cf_iuf_is_the_literal_double_loop(seed):
    rows = random_rows(np.random.default_rng(seed))  # with empty rows and repeated items
    similarity = item_cf_iuf(sequences(rows), 30).matrix()
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
    dense = item_cf_iuf(sequences([[1, 2], [1, 2, 3], [3, 3, 1]]), 3).matrix().toarray()
    assert dense[1, 2] == pytest.approx((1 / math.log(3) + 1 / math.log(4)) / math.sqrt(3 * 2))
    assert dense[1, 3] == pytest.approx((1 / math.log(4) + 1 / math.log(3)) / math.sqrt(3 * 2))
    assert dense[3, 2] == pytest.approx(1 / math.log(4) / 2)


def test_item_cf_iuf_reads_only_its_rows():
    whole = sequences([[1, 2, 9, 8], [2, 3, 7, 9]])
    train = Sequences(whole.items, whole.start, whole.stop - 2)
    assert set(zip(*item_cf_iuf(train, 9).matrix().nonzero(), strict=True)) == {(1, 2), (2, 1), (2, 3), (3, 2)}


@pytest.mark.parametrize("seed", range(3))
def test_top1_is_the_largest_of_each_row_and_the_lowest_id_of_equals(seed):
    rows = random_rows(np.random.default_rng(seed))
    similarity = item_cf_iuf(sequences(rows), 30)
    matrix = similarity.matrix()
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
