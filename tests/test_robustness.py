"""Perturbation of a finished run at test time, against slow readings and known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from robustness_setting import CPU, Case, Recorder, lists_of, plain_case

from seqrec.data.split import EvalSplit
from seqrec.evaluation import perturbation as robustness
from seqrec.evaluation.attacks import newest
from seqrec.evaluation.perturbation import Outcome, PerturbedEvaluator, changed, top_lists
from seqrec.noise.plan import corrupt
from seqrec.noise.registry import OPERATORS, NoiseSettings
from seqrec.utils.errors import UserError


@pytest.fixture(scope="module")
def markov():
    return Case("markov")


@pytest.fixture(scope="module")
def plain():
    return plain_case()


def same(one: Outcome, other: Outcome):
    return all(np.array_equal(vars(one)[name], vars(other)[name]) for name in vars(one))


def flat(cell, clean):
    """Whether nothing has changed but some inputs."""
    names = [name for name in clean["mean"] if "changed" not in name]
    assert len(names) == len(clean["mean"]) - 2
    kept = all(cell["mean"][name] == clean["mean"][name] for name in names)
    steady = all(cell["std"][name] == 0 for name in names) or cell["draws"] == 1
    return kept and steady and not cell["mean"]["NDCG@5 drop of changed"] > 0


@pytest.mark.parametrize("size", [1, 4, 9])
def test_top_lists_take_the_lower_id_first_among_equals(size):
    generator = np.random.default_rng(size)
    scores = generator.integers(-3, 3, (200, 12)).astype(np.float32) / 2
    scores[generator.random(scores.shape) < 0.1] *= -0.0 if size == 4 else 1.0
    scores[:100] += generator.random((100, 12), dtype=np.float32) * 0.01  # hardly any ties
    scores[:, 0] = -np.inf
    slow = [sorted(range(1, 12), key=lambda item: (-row[item], item))[:size] for row in scores.tolist()]
    assert top_lists(torch.from_numpy(scores), size).tolist() == slow


def test_top_lists_of_a_user_with_too_few_candidates_are_refused():
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0], [-torch.inf, 1.0, 3.0, 2.0]])
    assert top_lists(scores, 2).tolist() == [[3, 1], [2, 3]]
    with pytest.raises(UserError, match="fewer candidates"):
        top_lists(scores, 3)


def test_changed_rows(sequences_of):
    before = sequences_of([[1, 2], [3], [4, 5, 6], [7, 8], [9]])
    after = sequences_of([[1, 2], [4], [4, 5], [8, 7], [9]])
    assert changed(before, after).tolist() == [1, 2, 3]
    assert changed(before.take(np.array([4, 0])), after.take(np.array([4, 0]))).tolist() == []


@pytest.mark.parametrize("name", ["markov", "plain"])
def test_the_clean_outcome_is_the_evaluators(name, request):
    case = request.getfixturevalue(name)
    ranks = case.evaluator.ranks(case.method, case.test, CPU)
    clean = case.perturbed.clean
    assert np.array_equal(clean.better, ranks.better)
    assert np.array_equal(clean.equal, ranks.equal)
    assert np.array_equal(clean.rank, ranks.rank)
    cell = case.perturbed.cell({}, [case.test.inputs])
    for metric in ("HR@5", "NDCG@5"):
        assert cell["mean"][metric] == case.evaluator.metrics(ranks)[metric]


def test_only_inputs_are_perturbed_and_only_changed_rows_are_asked_again(markov):
    recorder = Recorder(markov.method)
    perturbed = PerturbedEvaluator(markov.evaluator, recorder, CPU, markov.test, 5)
    recorder.batches.clear()
    inputs = corrupt(markov.test.inputs, markov.keys, NoiseSettings(["replace"], 0.1), 0, markov.foreign).rows
    outcome, rows = perturbed.after(inputs)
    visible = lists_of(newest(inputs, 7))
    expected = [r for r, items in enumerate(lists_of(newest(markov.test.inputs, 7))) if items != visible[r]]
    assert rows.tolist() == expected
    assert 0 < len(rows) < len(markov.keys)
    of_user = {user: row for row, user in enumerate(markov.test.user.tolist())}
    scored = []
    for batch in recorder.batches:
        seen = [set(batch.seen[1][batch.seen[0] == b].tolist()) for b in range(len(batch.user))]
        for b, user in enumerate(batch.user.tolist()):
            row = of_user[user]
            scored.append(row)
            assert batch.target[b, -1] == markov.test.target[row]
            assert seen[b] == set(lists_of(markov.test.history)[row])
            assert batch.seq[b][batch.seq[b] > 0].tolist() == visible[row]
    assert sorted(scored) == rows.tolist()
    whole = replace(markov.test, inputs=inputs)
    assert same(outcome, PerturbedEvaluator(markov.evaluator, markov.method, CPU, whole, 5).clean)


def test_measures_are_those_of_their_definitions(markov):
    inputs = corrupt(markov.test.inputs, markov.keys, NoiseSettings(["insert"], 0.3), 1, markov.foreign).rows
    outcome, rows = markov.perturbed.after(inputs)
    found = markov.perturbed.measures(outcome, rows)
    clean = markov.evaluator.ranks(markov.method, markov.test, CPU)
    after = markov.evaluator.ranks(markov.method, replace(markov.test, inputs=inputs), CPU)

    def metrics(ranks, r):
        places = [ranks.better[r] + 1 + i for i in range(ranks.equal[r])]
        hit = sum(place <= 5 for place in places) / len(places)
        return hit, sum(1 / math.log2(place + 1) for place in places if place <= 5) / len(places)

    users = range(len(clean.user))
    (hits, gains), (new_hits, new_gains) = (
        zip(*(metrics(ranks, r) for r in users), strict=True) for ranks in (clean, after)
    )
    number = len(clean.user)
    assert found["changed"] == len(rows) / number
    assert found["HR@5"] == pytest.approx(sum(new_hits) / number)
    assert found["NDCG@5"] == pytest.approx(sum(new_gains) / number)
    assert found["HR@5 drop"] == pytest.approx(1 - sum(new_hits) / sum(hits))
    assert found["NDCG@5 drop"] == pytest.approx(1 - sum(new_gains) / sum(gains))
    of_changed = sum(new_gains[r] for r in rows) / sum(gains[r] for r in rows)
    assert found["NDCG@5 drop of changed"] == pytest.approx(1 - of_changed)
    shift = [math.log2(after.rank[r] + 1) - math.log2(clean.rank[r] + 1) for r in users]
    assert found["shift mean"] == pytest.approx(np.mean(shift))
    assert found["shift median"] == pytest.approx(np.median(shift))
    assert found["hits lost@5"] == pytest.approx(sum(max(hits[r] - new_hits[r], 0) for r in users) / number)
    assert found["hits won@5"] == pytest.approx(sum(max(new_hits[r] - hits[r], 0) for r in users) / number)
    assert found["HR@5"] == pytest.approx(sum(hits) / number - found["hits lost@5"] + found["hits won@5"])
    worst = sorted(users, key=lambda r: (new_gains[r] - gains[r], new_gains[r]))[: math.ceil(number / 10)]
    assert found["tail NDCG@5"] == pytest.approx(sum(new_gains[r] for r in worst) / len(worst))
    assert found["tail loss@5"] == pytest.approx(sum(gains[r] - new_gains[r] for r in worst) / len(worst))
    lists = list(zip(markov.perturbed.clean.lists.tolist(), outcome.lists.tolist(), strict=True))
    slow = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in lists]
    assert found["Jaccard@5"] == pytest.approx(np.mean(slow))
    overlap = [sum(0.9 ** (d - 1) * len(set(a[:d]) & set(b[:d])) / d for d in range(1, 6)) for a, b in lists]
    assert found["FRBO@5"] == pytest.approx(np.mean(overlap) * 0.1 / (1 - 0.9**5))


@pytest.mark.parametrize("name", ["markov", "plain"])
def test_ratio_zero_is_the_clean_evaluation_bit_by_bit(name, request):
    case = request.getfixturevalue(name)
    inputs = corrupt(case.test.inputs, case.keys, NoiseSettings(list(OPERATORS), 0.0), 3, case.foreign).rows
    again = PerturbedEvaluator(case.evaluator, case.method, CPU, replace(case.test, inputs=inputs), 5)
    assert same(again.clean, case.perturbed.clean)
    clean = case.perturbed.cell({}, [case.test.inputs])
    cells = case.noise(*OPERATORS, "insert+delete", ratios=[0.0], draws=3)
    assert len(cells) == len(OPERATORS) + 1
    assert all(flat(cell, clean) for cell in cells)
    assert all(cell["mean"]["changed"] == 0 for cell in cells)


def test_most_popular_is_flat_under_everything():
    case = Case("popularity")
    clean = case.perturbed.cell({}, [case.test.inputs])
    cells = case.noise(*OPERATORS, ratios=[0.3, 1.0]) + case.attacks("first", "random", "-2", counts=(1, 3), worst=4)
    assert all(flat(cell, clean) for cell in cells)
    assert min(cell["mean"]["changed"] for cell in cells) > 0.3
    assert {cell["mean"]["Jaccard@5"] for cell in cells} == {1.0}


def test_markov_falls_under_shuffle_and_replaced_last_items_only(markov):
    (shuffled,) = markov.noise("shuffle", ratios=[1.0], draws=3)
    assert shuffled["mean"]["NDCG@5 drop"] > 0.1
    assert shuffled["mean"]["Jaccard@5"] < 0.6
    last, older = markov.attacks("last", "-2", draws=3)
    assert last["mean"]["NDCG@5 drop"] > 0.3
    assert older["mean"]["changed"] > 0.9
    clean = markov.perturbed.cell({}, [markov.test.inputs])
    assert flat(older, clean)  # it scores by the newest item alone


def test_the_order_of_users_changes_nothing(markov):
    order = np.random.default_rng(0).permutation(len(markov.keys))
    other = Case("markov")
    test = markov.test
    other.test = EvalSplit(test.user[order], test.target[order], test.inputs.take(order), test.history.take(order))
    other.keys = markov.keys[order]
    other.perturbed = PerturbedEvaluator(other.evaluator, other.method, CPU, other.test, 5)
    grids = [
        case.noise("insert", "shuffle", "swap+replace", ratios=[0.2, 0.7])
        + case.attacks("last", "random", counts=(1, 2), worst=3)
        for case in (markov, other)
    ]
    for one, two in zip(*grids, strict=True):
        assert one["mean"] == pytest.approx(two["mean"], rel=1e-9, abs=1e-12, nan_ok=True)
    inputs = markov.attacked("random", 2, seed=5)
    assert lists_of(inputs.take(order)) == lists_of(other.attacked("random", 2, seed=5))


def test_draws_have_the_seeds_from_the_first_one_on(markov):
    cell = markov.noise("insert", ratios=[0.4], draws=3, seed=7)[0]
    alone = [markov.noise("insert", ratios=[0.4], draws=1, seed=7 + draw)[0]["mean"]["NDCG@5"] for draw in range(3)]
    assert len(set(alone)) == 3
    assert cell["draws"] == 3
    assert cell["mean"]["NDCG@5"] == pytest.approx(np.mean(alone))
    assert cell["std"]["NDCG@5"] == pytest.approx(np.std(alone, ddof=1))


def test_noise_at_test_time_is_not_that_of_training(markov, monkeypatch):
    """Draw 1 has the seed that training noise has by default: under the same keys a model would meet what it has learnt."""
    made = []
    monkeypatch.setattr(robustness, "corrupt", lambda *given: made.append(corrupt(*given)) or made[-1])
    markov.noise("replace", ratios=[0.5], draws=1, seed=1)
    inputs = markov.test.inputs
    trained = corrupt(inputs, markov.keys, NoiseSettings(["replace"], 0.5), 1, markov.foreign)
    clean, one, other = (np.concatenate(lists_of(rows)) for rows in (inputs, trained.rows, made[-1].rows))
    both = (one != clean) & (other != clean)
    assert both.sum() > 100
    assert (one == other)[both].mean() < 0.1


def test_noise_goes_where_it_is_told(markov):
    (anywhere,) = markov.noise("replace", ratios=[0.2])
    (begin,) = markov.noise("replace", ratios=[0.2], where="begin")
    assert begin["mean"]["NDCG@5 drop"] == 0 < anywhere["mean"]["NDCG@5 drop"]


def test_the_log_score_is_the_log_softmax_over_the_candidates(plain):
    test, clean = plain.test, plain.perturbed.clean
    plain.method.eval()
    for row in (0, 17, 101):
        seen = lists_of(test.history)[row]
        with torch.no_grad():
            state = plain.method.encode(torch.tensor([seen[-7:]]))[0, -1].double()
        candidates = [item for item in range(1, 121) if item not in seen]
        logits = plain.method.items.weight.double().detach()[candidates] @ state
        value = logits.log_softmax(0)[candidates.index(test.target[row])]
        assert clean.log_score[row] == pytest.approx(float(value), rel=1e-4)
