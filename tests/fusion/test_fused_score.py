"""The fused score of any number of models against its definition, cell by cell."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seqrec.batch import Batch
from seqrec.fusion.features import FeatureSet
from seqrec.fusion.fused import Fused, Newest

ITEMS, MAX_LEN, LENGTHS = 9, 4, [2]
ROWS = [[1, 2, 3, 1, 5], [2, 3], [7, 8], [3, 2, 1, 6, 6, 8, 9, 2, 4]]
SEQ = torch.tensor([[0, 0, 1, 2], [4, 4, 9, 2], [0, 3, 2, 1], [0, 0, 0, 7]])  # groups 0, 1, 1, 0
LIBRARY = {
    "newest": {"matrix": "transitions", "decay": 0.5, "newest": 2, "constant": 0.1},
    "history": {"matrix": "normalised", "decay": 0.8, "newest": 4, "constant": 0.3},
}


class Scores(nn.Module):
    """A model that has scored all there is."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def score(self, batch):
        return self.value.clone()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("models", [0, 1, 2, 3])
def test_it_is_the_sum_of_all_parts_under_the_weights_of_each_rows_group(sequences_of, monkeypatch, models, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # each adds the counts of its own rows
    torch.manual_seed(models)
    features = FeatureSet(["newest", "history", "popularity"], LIBRARY, 3, 0.8, ITEMS)
    features.setup(sequences_of(ROWS), ITEMS)
    scores = [torch.randn(len(SEQ), ITEMS + 1) for _ in range(models)]
    weights = torch.randn(len(LENGTHS) + 1, models + 3)
    fused = Fused([Scores(value) for value in scores], features, weights, LENGTHS, MAX_LEN)

    counted = [feature.toarray() for feature in features.each(SEQ.numpy())]
    wanted = np.zeros((len(SEQ), ITEMS + 1))
    for row, history in enumerate(SEQ.tolist()):
        group = int(sum(item > 0 for item in history) > LENGTHS[0])
        for item in range(ITEMS + 1):
            parts = [value[row, item] for value in scores]
            parts += [features.of_items[0, item], *(feature[row, item] for feature in counted)]
            wanted[row, item] = sum(float(w) * float(part) for w, part in zip(weights[group], parts, strict=True))
    assert fused.score(SimpleNamespace(seq=SEQ)).numpy() == pytest.approx(wanted, abs=1e-5)


class Sums(nn.Module):
    """A model whose score tells all that it sees."""

    def score(self, batch):
        return (batch.seq + 10 * batch.target + 100 * batch.index).sum(1)


def test_a_model_of_shorter_histories_sees_their_newest_items():
    batch = Batch(user=torch.arange(4), seq=SEQ, target=SEQ + 1, index=SEQ + 2)
    expected = [sum(111 * item + 210 for item in row[-2:]) for row in SEQ.tolist()]
    assert Newest(Sums(), 2).score(batch).tolist() == expected
    assert torch.equal(Newest(Sums(), 9).score(batch), Sums().score(batch))
