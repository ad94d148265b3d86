"""Cells of attacks on given places: the worst candidate, the gradient, places that a user lacks."""

from dataclasses import replace

import numpy as np
import pytest
from robustness_setting import CPU, Case, Recorder, lists_of, plain_case

from seqrec.evaluation.attacks import newest
from seqrec.evaluation.perturbation import PerturbedEvaluator, attack_cells
from seqrec.noise.plan import corrupt
from seqrec.noise.registry import NoiseSettings


@pytest.fixture(scope="module")
def markov():
    return Case("markov")


@pytest.fixture(scope="module")
def plain():
    return plain_case()


@pytest.mark.parametrize("name", ["markov", "plain"])
def test_the_worst_candidate_of_each_user_is_chosen(name, request):
    case = request.getfixturevalue(name)
    outcomes = [case.perturbed.after(case.attacked("random", 1, seed=draw))[0] for draw in range(6)]
    scores = np.stack([outcome.log_score for outcome in outcomes])
    lowest = outcomes[0]
    for outcome in outcomes[1:]:
        lowest = lowest.lower(outcome)
    assert np.array_equal(lowest.log_score, scores.min(0))
    which = scores.argmin(0)
    assert len(set(which.tolist())) > 2
    for row in range(len(case.keys)):
        assert lowest.better[row] == outcomes[which[row]].better[row]
        assert np.array_equal(lowest.lists[row], outcomes[which[row]].lists[row])
    random, worst = case.attacks("random", draws=6, worst=6)
    assert worst["attack"] == "worst of 6"
    assert worst["draws"] == 1
    assert worst["mean"] == case.perturbed.measures(lowest, np.arange(len(case.keys)))
    assert lowest.log_score.mean() < scores.mean(1).min()
    assert worst["mean"]["NDCG@5"] < random["mean"]["NDCG@5"]
    more = case.attacks("random", draws=2, worst=12)[1]
    assert more["mean"]["NDCG@5"] <= worst["mean"]["NDCG@5"]


def test_the_gradient_hurts_more_than_chance(plain):
    random, gradient = plain.attacks("last", gradient=True, draws=3)
    assert gradient["draws"] == 1
    assert gradient["mean"]["shift mean"] > random["mean"]["shift mean"] + 0.1
    assert plain.attacks("random", gradient=True, draws=3)[1]["draws"] == 3


def test_rows_without_an_item_at_the_position_stay(markov):
    (cell,) = markov.attacks("-6", draws=1)
    length = newest(markov.test.inputs, 7).lengths
    assert 0 < (length >= 6).mean() < 1
    assert cell["mean"]["changed"] == (length >= 6).mean()


def test_no_replacement_is_in_the_history_nor_in_a_noisy_input(markov):
    """The input of a run that was trained on noise may have items that the history has not, and the other way round."""
    noisy = corrupt(markov.test.inputs, markov.keys, NoiseSettings(["replace"], 0.8), 0, markov.foreign).rows
    recorder = Recorder(markov.method)
    perturbed = PerturbedEvaluator(markov.evaluator, recorder, CPU, replace(markov.test, inputs=noisy), 5)
    of_user = {user: row for row, user in enumerate(markov.test.user.tolist())}
    recorder.batches.clear()
    for _ in attack_cells(perturbed, markov.keys, 0, markov.foreign, ["last"], [3], 40, 0, False):
        pass
    assert len(recorder.batches) >= 40
    histories, inputs = lists_of(markov.test.history), lists_of(noisy)
    for batch in recorder.batches:
        for user, seq in zip(batch.user.tolist(), batch.seq.tolist(), strict=True):
            row = of_user[user]
            new = set([item for item in seq if item][-3:])
            assert not new & (set(histories[row]) | set(inputs[row]))
