"""Ranks against a slow ranking of the whole catalogue."""

import numpy as np
import pytest
import torch
from torch import nn

from seqrec.data.split import EvalSplit
from seqrec.evaluation import evaluator as evaluate
from seqrec.evaluation.evaluator import Evaluator, Ranks
from seqrec.utils.errors import UserError

ITEMS, USERS, MAX_LEN = 23, 70, 6
CPU = torch.device("cpu")


class Table(nn.Module):
    """Scores of each user, ties among them; remembers the batches."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.sizes, self.modes = torch.as_tensor(scores), [], []

    def score(self, batch):
        self.sizes.append(len(batch.user))
        self.modes.append(self.training)
        assert not torch.is_grad_enabled()
        return self.scores[batch.user].clone()


@pytest.fixture
def scores():
    return np.random.default_rng(0).integers(0, 9, (USERS + 5, ITEMS + 1)).astype(np.float32)


@pytest.fixture
def part(sequences_of):
    """Histories of 1 to 12 items; every seventh target is in its own history."""
    generator = np.random.default_rng(1)
    user = generator.permutation(USERS + 5)[:USERS]
    history = [generator.integers(1, ITEMS + 1, generator.integers(1, 13)) for _ in user]
    target = np.zeros(USERS, np.int64)
    for row, items in enumerate(history):
        fresh = [item for item in range(1, ITEMS + 1) if item not in items]
        target[row] = items[0] if row % 7 == 0 else generator.choice(fresh)
    sequences = sequences_of(history)
    return EvalSplit(user, target, sequences, sequences)


def history_of(part, row):
    return set(part.history.items[part.history.start[row] : part.history.stop[row]].tolist())


def slow(scores, part, mask_history):
    """(better, equal) of each question by a loop over the catalogue; None for a target that is masked."""
    counts = []
    for row, (user, target) in enumerate(zip(part.user, part.target, strict=True)):
        seen = history_of(part, row) if mask_history else set()
        if target in seen:
            counts.append(None)
            continue
        candidates = [item for item in range(1, ITEMS + 1) if item not in seen]
        own = scores[user, target]
        counts.append(
            (
                sum(scores[user, item] > own for item in candidates),
                sum(scores[user, item] == own for item in candidates),
            )
        )
    return counts


def evaluator(mask_history=True, ties="expected", cutoffs=(1, 5, ITEMS)):
    return Evaluator(list(cutoffs), mask_history, ties, ITEMS, MAX_LEN)


def test_ranks_are_those_of_a_slow_ranking(scores, part):
    ranks = evaluator().ranks(Table(scores), part, CPU)
    expected = slow(scores, part, mask_history=True)
    assert expected.count(None) == ranks.masked_targets == len(range(0, USERS, 7))
    assert np.array_equal(ranks.user, part.user)
    assert np.array_equal(ranks.target, part.target)
    assert any(pair is not None and pair[1] > 1 for pair in expected)
    for better, equal, pair in zip(ranks.better, ranks.equal, expected, strict=True):
        assert pair is None or pair == (better, equal)
    assert np.array_equal(ranks.rank, ranks.better + (ranks.equal + 1) / 2)


def test_a_masked_target_is_a_miss_at_every_cutoff(scores, part):
    ranks = evaluator().ranks(Table(scores), part, CPU)
    for row, pair in enumerate(slow(scores, part, mask_history=True)):
        if pair is None:
            assert (ranks.better[row], ranks.equal[row]) == (ITEMS, 1)
            one = Ranks(ranks.user[[row]], ranks.target[[row]], ranks.better[[row]], ranks.equal[[row]], 1)
            metrics = evaluator().metrics(one)
            assert [metrics[f"HR@{k}"] for k in (1, 5, ITEMS)] == [0, 0, 0]
            assert [metrics[f"NDCG@{k}"] for k in (1, 5, ITEMS)] == [0, 0, 0]
            assert metrics["MRR"] < 1 / (ITEMS - len(history_of(part, row)))


def test_without_masking_all_items_are_candidates(scores, part):
    ranks = evaluator(mask_history=False).ranks(Table(scores), part, CPU)
    assert list(zip(ranks.better, ranks.equal, strict=True)) == slow(scores, part, mask_history=False)
    assert ranks.masked_targets == 0


@pytest.mark.parametrize("mask_history", [True, False])
@pytest.mark.parametrize("padding", [1e9, 8.0, -np.inf])
def test_padding_is_never_a_candidate(scores, part, mask_history, padding):
    plain = evaluator(mask_history).ranks(Table(scores), part, CPU)
    scores[:, 0] = padding
    other = evaluator(mask_history).ranks(Table(scores), part, CPU)
    assert np.array_equal(plain.better, other.better)
    assert np.array_equal(plain.equal, other.equal)


def test_masking_takes_the_whole_history_not_what_the_model_sees(sequences_of):
    long = sequences_of([list(range(1, 21))])
    descending = torch.arange(ITEMS + 1.0).flip(0)[None]
    ranks = Evaluator([5], True, "expected", ITEMS, max_len=2).ranks(
        Table(descending), EvalSplit(np.array([0]), np.array([21]), long, long), CPU
    )
    assert (ranks.better[0], ranks.equal[0]) == (0, 1)


def test_masking_takes_the_clean_history(sequences_of):
    noisy, clean = sequences_of([[9, 9, 9]]), sequences_of([[1, 2, 2]])
    scores = torch.zeros(1, ITEMS + 1)
    scores[0, [1, 9]] = 5.0
    ranks = evaluator().ranks(Table(scores), EvalSplit(np.array([0]), np.array([4]), noisy, clean), CPU)
    assert (ranks.better[0], ranks.equal[0]) == (1, ITEMS - 3)


def test_ranks_do_not_depend_on_the_size_of_chunks(scores, part, monkeypatch):
    whole, pieces = Table(scores), Table(scores)
    expected = evaluator().ranks(whole, part, CPU)
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(evaluate, "COMPARED_AT_ONCE", 3 * (ITEMS + 1))
    ranks = evaluator().ranks(pieces, part, CPU)
    assert whole.sizes == [USERS]
    assert pieces.sizes == [16, 16, 16, 16, 6]
    assert np.array_equal(ranks.better, expected.better)
    assert np.array_equal(ranks.equal, expected.equal)
    assert ranks.masked_targets == expected.masked_targets


def test_ranks_do_not_depend_on_the_order_of_users(scores, part):
    order = np.random.default_rng(2).permutation(USERS)
    sequences = part.history.take(order)
    shuffled = EvalSplit(part.user[order], part.target[order], sequences, sequences)
    expected, ranks = (evaluator().ranks(Table(scores), each, CPU) for each in (part, shuffled))
    for name in ("user", "target", "better", "equal"):
        assert np.array_equal(getattr(ranks, name), getattr(expected, name)[order])
    assert evaluator().metrics(ranks) == pytest.approx(evaluator().metrics(expected))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("item", [0, 3])
def test_a_score_that_is_no_number_is_an_error(scores, part, bad, item):
    scores[part.user[-1], item] = bad
    with pytest.raises(UserError, match="not a finite number"):
        evaluator().ranks(Table(scores), part, CPU)


def test_a_target_without_any_chance_is_an_error(scores, part):
    scores[part.user[1], part.target[1]] = -np.inf
    with pytest.raises(UserError, match="not a finite number"):
        evaluator().ranks(Table(scores), part, CPU)


def test_a_cutoff_beyond_the_catalogue_is_an_error():
    with pytest.raises(UserError, match=rf"K={ITEMS + 1} is larger than the catalogue of {ITEMS} items"):
        evaluator(cutoffs=(5, ITEMS + 1))
    evaluator(cutoffs=(ITEMS,))


@pytest.mark.parametrize("training", [True, False])
def test_the_method_scores_in_eval_mode_and_left_as_it_was(scores, part, training):
    method = Table(scores).train(training)
    evaluator().ranks(method, part, CPU)
    assert method.training is training
    assert not any(method.modes)


def test_a_constant_scorer_gets_k_out_of_the_candidates(part):
    ranks = evaluator(mask_history=False).ranks(Table(torch.full((USERS + 5, ITEMS + 1), 0.3)), part, CPU)
    metrics = evaluator().metrics(ranks)
    assert [metrics[f"HR@{k}"] for k in (1, 5, ITEMS)] == pytest.approx([1 / ITEMS, 5 / ITEMS, 1])
    assert evaluator(ties="pessimistic").metrics(ranks)["HR@5"] == 0
    assert evaluator(ties="optimistic").metrics(ranks)["HR@5"] == 1


def test_half_precision_scores_are_ranked_as_they_are(scores, part):
    full = evaluator().ranks(Table(scores), part, CPU)
    half = evaluator().ranks(Table(torch.as_tensor(scores).bfloat16()), part, CPU)
    assert np.array_equal(full.better, half.better)
