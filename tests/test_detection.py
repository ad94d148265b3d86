"""Noise detection against slow readings of its definitions."""

import numpy as np
import pytest
import torch

from seqrec.evaluation.noise_detection import auc, highest, known_noise, report
from seqrec.methods.popularity import Popularity
from seqrec.utils.errors import UserError

LABEL = np.array([True, False, False, True, False, False])
SCORE = np.array([0.5, 0.5, 0.1, 0.9, 0.2, 0.7])


def test_auc_is_the_share_of_pairs_in_the_right_order():
    pairs = [(a, b) for a in SCORE[LABEL] for b in SCORE[~LABEL]]
    assert auc(SCORE, LABEL) == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert auc(LABEL.astype(float), LABEL) == 1
    assert auc(np.zeros(6), LABEL) == 0.5


def test_report_is_the_expectation_over_random_drops():
    drop = np.array([0.9, 0.1, 0.0, 0.5, 0.3, 0.2])
    found = report(drop, drop, LABEL)
    assert found["dropped"] == pytest.approx(2 / 6)
    assert found["precision"] == pytest.approx(1.4 / 2)
    assert found["recall"] == pytest.approx(0.7)
    assert found["over"] == pytest.approx(0.6 / 4)


def test_the_highest_scores_are_dropped_and_ties_share_the_rest():
    assert highest(SCORE, 0.5).tolist() == [0.5, 0.5, 0, 1, 0, 1]
    assert highest(SCORE, 1 / 6).tolist() == [0, 0, 0, 1, 0, 0]
    assert highest(SCORE, 1).tolist() == [1] * 6


class Oracle:
    """Drops item 9 in three of four cases, and nothing else."""

    trained = True
    items = torch.nn.Embedding(1, 1)

    def keep_probability(self, batch):
        return (batch.seq > 0) * (1 - 0.75 * (batch.seq == 9))


class KeepsAll(Oracle):
    """Drops nothing, as most methods."""

    def keep_probability(self, batch):
        return None


def test_a_method_is_compared_with_rules_that_drop_as_much(sequences_of):
    train = sequences_of([[1, 9, 2, 3], [9, 1, 2], [4, 1, 3, 2, 1]])  # the newest item is a target only
    table = known_noise(Oracle(), train, train.items == 9, max_len=3)
    assert table["method"]["AUC"] == 1
    assert table["method"]["precision"] == 1
    assert table["method"]["recall"] == 0.75
    shares = [row["dropped"] for row in table.values()]
    assert shares == pytest.approx([1.5 / 8] * 5)
    # inputs that are seen: 1 9 2, 9 1, 1 3 2; ages 2 1 0, 1 0, 2 1 0
    assert table["chance"]["precision"] == pytest.approx(2 / 8)
    assert table["all but the last k"]["precision"] == 0
    assert table["all but the last k"]["AUC"] == pytest.approx(3.5 / 6)  # of six clean ones three are newer, one as old
    assert table["inverse popularity"]["recall"] < 1


def test_without_labels_or_without_drops_it_says_so(sequences_of):
    train = sequences_of([[1, 2, 3]])
    with pytest.raises(UserError, match="labelled as noise"):
        known_noise(Oracle(), train, train.items == 9, max_len=3)
    with pytest.raises(UserError, match="drops no items"):
        known_noise(KeepsAll(), train, train.items == 9, max_len=3)
    with pytest.raises(UserError, match="drops no items"):
        known_noise(Popularity(3, 3), train, train.items == 9, max_len=3)
