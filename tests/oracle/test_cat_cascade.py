"""CAT's cascade effects, weights and perturbations against sections 3 and 4 of its page, by loops."""

import functools
import math

import numpy as np
import pytest
import torch
from method_setting import MAX_LEN, ROWS, Setting

from seqrec.data.loader import TrainLoader
from seqrec.data.sequences import Sequences
from seqrec.methods.cat.cascade import cascade_effects, inverse_weights, shuffled, single
from seqrec.methods.cat.perturbation import Perturbation


@pytest.fixture
def setting(sequences_of):
    return functools.partial(Setting, "cat", sequences_of, "bce")


# --- section 3: cascade effect


def oracle_inputs(row, prefixes):
    """Return (k, inputs that prediction k sees), k being the place of the newest one."""
    last = len(row) - 2
    kept = range(max(0, last - MAX_LEN + 1), last + 1)
    return [(k, range(max(0, k - MAX_LEN + 1) if prefixes else kept[0], k + 1)) for k in kept]


def oracle_direct(rows, prefixes, decay):
    direct = [[0.0] * len(row) for row in rows]
    for u, row in enumerate(rows):
        for k, seen in oracle_inputs(row, prefixes):
            for t in seen:
                direct[u][t] += decay ** (k - t)
    return direct


def oracle_cascade(rows, prefixes, decay, cross, batch_size):
    direct = oracle_direct(rows, prefixes, decay)
    predictions = [len(oracle_inputs(row, prefixes)) for row in rows]
    m = sum(predictions) if prefixes else sum(count > 0 for count in predictions)
    effects = []
    for u, row in enumerate(rows):
        for t, item in enumerate(row):
            x = 0.0
            for other, other_row in enumerate(rows):
                for place, other_item in enumerate(other_row):
                    if other != u and other_item == item and direct[other][place] > 0:
                        x += {"effect": direct[other][place], "count": 1, "none": 0}[cross]
            effects.append(direct[u][t] + min(1, batch_size / m) * x if direct[u][t] > 0 else 0)
    return effects


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("decay", [1.0, 0.7])
@pytest.mark.parametrize("cross", ["effect", "count", "none"])
@pytest.mark.parametrize("batch_size", [2, 100])
def test_cascade_effect(sequences_of, prefixes, decay, cross, batch_size):
    effect, direct = cascade_effects(sequences_of(ROWS), MAX_LEN, prefixes, decay, cross, batch_size)
    assert effect.tolist() == pytest.approx(oracle_cascade(ROWS, prefixes, decay, cross, batch_size), rel=1e-12)
    wanted = [value for row in oracle_direct(ROWS, prefixes, decay) for value in row]
    assert direct.tolist() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("decay", "max_len"), [(0.3, 50), (0.8, 200), (0.3, 200)])
def test_an_effect_far_back_is_not_lost_in_rounding(sequences_of, decay, max_len):
    """What is further back than `max_len` reaches the oldest predictions alone: a sum of powers that are all tiny."""
    length = 2 * max_len
    effect, _ = cascade_effects(sequences_of([list(range(1, length + 1))]), max_len, True, decay, "none", 1)
    newest = range(length - 1 - max_len, length - 1)
    for t in range(length - 1):
        seen = sum(decay ** (k - t) for k in newest if k - max_len < t <= k)
        assert float(effect[t]) == pytest.approx(seen, rel=1e-12), t
    window = single(effect)[None, :max_len]
    weight = inverse_weights(window, window > 0, None)
    assert float(weight.sum()) == pytest.approx(int((window > 0).sum()))


@pytest.mark.parametrize("prefixes", [False, True])
def test_the_inputs_of_the_loader_have_an_effect_and_nothing_else_has(sequences_of, prefixes):
    sequences = sequences_of(ROWS)
    used = set()
    for batch in TrainLoader(sequences, 3, MAX_LEN, seed=0, prefixes=prefixes).epoch(0):
        used |= set(batch.index[batch.seq > 0].tolist())
    effect, _ = cascade_effects(sequences, MAX_LEN, prefixes, 1.0, "effect", 3)
    assert set(effect.nonzero()[:, 0].tolist()) == used


def test_effects_by_hand(sequences_of):
    # user 0: inputs 1, 2 (the 3 is a target only); user 1: inputs 2, 4; m = 2 sequences, so b / m = 1 / 2
    effect, _ = cascade_effects(sequences_of([[1, 2, 3], [2, 4, 1]]), MAX_LEN, False, 1.0, "effect", batch_size=1)
    assert effect.tolist() == [2, 1 + 2 / 2, 0, 2 + 1 / 2, 1, 0]


def test_an_item_of_one_user_has_no_cross_effect_and_users_may_change_places(sequences_of):
    effect, direct = cascade_effects(sequences_of(ROWS), MAX_LEN, False, 0.7, "effect", 4)
    # 10 and 11 are in one sequence each; 9 is an input of one, and the target alone of another
    places = [place for place, item in enumerate(item for row in ROWS for item in row) if item in (9, 10, 11)]
    assert [(effect[place] - direct[place]).item() for place in places] == [0, 0, 0, 0]
    order = [5, 2, 6, 0, 3, 1, 4]
    moved, _ = cascade_effects(sequences_of([ROWS[u] for u in order]), MAX_LEN, False, 0.7, "effect", 4)
    back = moved.split([len(ROWS[u]) for u in order])
    assert torch.equal(torch.cat([back[order.index(u)] for u in range(len(ROWS))]), effect)


def test_rows_may_be_views_of_longer_arrays():
    items = np.array([1, 2, 3, 9, 9, 2, 1, 9], np.int32)  # 9: held out
    views = Sequences(items, np.array([0, 5]), np.array([3, 7]))
    effect, _ = cascade_effects(views, MAX_LEN, False, 1.0, "effect", 1)
    assert effect.tolist() == [2, 1 + 0.5, 0, 0, 0, 1 + 0.5, 0, 0]


# --- section 4: weights and perturbation


def oracle_weights(effects, clip=None):
    inverse = [1 / c for c in effects]
    weights = [w / (sum(inverse) / len(inverse)) for w in inverse]
    if clip is not None:
        for _ in range(2):
            weights = [min(w, clip) for w in weights]
            weights = [w / (sum(weights) / len(weights)) for w in weights]
    return weights


@pytest.mark.parametrize("keys", [{}, {"cross": "count", "decay": 0.5}, {"clip_weights": 1.5}, {"weights": "position"}])
@pytest.mark.parametrize("backbone", ["sasrec", "fmlprec"])
def test_weights(setting, keys, backbone):
    case = setting(backbone=backbone, **keys)
    prefixes = backbone == "fmlprec"
    cross, decay = ("none", 1.0) if "weights" in keys else (keys.get("cross", "effect"), keys.get("decay", 1.0))
    effects = oracle_cascade(ROWS, prefixes, decay, cross, 4)
    for batch in case.loader.epoch(0):
        weight = case.method.slot_weights(batch)
        for row, index in zip(weight.tolist(), batch.index.tolist(), strict=True):
            real = [i for i in index if i >= 0]
            wanted = oracle_weights([effects[i] for i in real], keys.get("clip_weights"))
            assert row == pytest.approx([0] * (len(index) - len(real)) + wanted, rel=1e-5)


def test_weights_from_the_true_batch(setting):
    case = setting(cross="batch")
    direct = oracle_direct(ROWS, False, 1.0)
    place = [(u, t) for u, row in enumerate(ROWS) for t in range(len(row))]
    for batch in case.loader.epoch(0):
        weight = case.method.slot_weights(batch)
        inputs = [place[i] for i in batch.index.flatten().tolist() if i >= 0]
        for row, index in zip(weight.tolist(), batch.index.tolist(), strict=True):
            effects = []
            for u, t in (place[i] for i in index if i >= 0):
                others = [direct[v][s] for v, s in inputs if v != u and ROWS[v][s] == ROWS[u][t]]
                effects.append(direct[u][t] + sum(others))
            assert row[-len(effects) :] == pytest.approx(oracle_weights(effects), rel=1e-5)


def test_rows_of_one_user_do_not_act_on_one_another(setting):
    case = setting(backbone="fmlprec", cross="batch", rows=[[1, 2, 3, 4, 5]])
    assert len(case.batch.user) > 1
    plain = setting(backbone="fmlprec", cross="none", rows=[[1, 2, 3, 4, 5]])
    assert torch.equal(case.method.slot_weights(case.batch), plain.method.slot_weights(plain.batch))


def test_mean_one_single_items_and_the_rise_where_items_are_unique(setting):
    case = setting(rows=[[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]])
    weight = case.method.slot_weights(case.batch)
    mask = case.batch.seq > 0
    assert torch.allclose(weight.sum(1) / mask.sum(1), torch.ones(3))
    assert (weight[~mask] == 0).all()
    for row, real in zip(weight, mask, strict=True):
        own = row[real]
        assert (own.diff() > 0).all()
        assert len(own) > 1 or own.item() == 1


def test_clipping_long_unique_rows():
    # the page's figures: the newest weight passes 10 from n = 44; clipping alone leaves a mean of .978 at 50, .838 at 200
    def newest(n, clip=None):
        return inverse_weights(torch.arange(n, 0, -1.0)[None], torch.ones(1, n, dtype=torch.bool), clip)

    assert newest(43)[0, -1] <= 10 < newest(44)[0, -1]
    for n, clipped_mean in ((50, 0.978), (200, 0.838)):
        assert newest(n).clamp(max=10).mean().item() == pytest.approx(clipped_mean, abs=5e-4)
        twice = newest(n, clip=10)
        assert twice.mean().item() == pytest.approx(1, abs=1e-6)
        assert twice[0].tolist() == pytest.approx(oracle_weights(range(n, 0, -1), 10), rel=1e-4)


def test_shuffled_weights_stay_in_their_row():
    torch.manual_seed(0)
    mask = torch.tensor([[False, True, True, True], [True, True, True, True], [False, False, False, True]])
    weight = torch.arange(1.0, 13).view(3, 4) * mask
    seen = set()
    for _ in range(200):
        mixed = shuffled(weight, mask)
        assert torch.equal(mixed.sort(1).values, weight.sort(1).values)
        assert torch.equal(mixed > 0, mask)
        seen.add(tuple(mixed[0].tolist()))
    assert len(seen) == math.factorial(3)


def test_uniform_weights(setting):
    case = setting(weights="uniform")
    assert torch.equal(case.method.slot_weights(case.batch), (case.batch.seq > 0).float())


def test_ascent_by_hand():
    gradient, radius = torch.tensor([[3.0, -4.0], [0.0, 0.0]]), torch.tensor([[2.0], [1.0]])
    (shift,) = Perturbation("gradient", 1, 1.0)(None, [gradient], [radius])
    assert torch.allclose(shift, torch.tensor([[1.2, -1.6], [0, 0]]))
    (shift,) = Perturbation("sign", 1, 1.0)(None, [gradient], [radius])
    assert torch.equal(shift, torch.tensor([[2.0, -2.0], [0, 0]]))
    torch.manual_seed(0)
    (shift,) = Perturbation("random", 1, 1.0)(None, [gradient], [radius])
    assert torch.allclose(shift.norm(dim=-1), radius[:, 0])
    assert abs(torch.cosine_similarity(shift[0], gradient[0], dim=0)) < 0.99


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("direction", ["gradient", "sign"])
def test_several_steps_are_projected_gradient_ascent(direction, steps):
    centre, radius = torch.tensor([0.5, 0.1, -0.2]), 0.3

    def loss(shift):
        return -((shift - centre) ** 2).sum()

    oracle = [0.0, 0.0, 0.0]
    for _ in range(steps):
        gradient = [-2 * (s - c) for s, c in zip(oracle, centre.tolist(), strict=True)]
        if direction == "sign":
            moved = [s + 0.5 * radius * math.copysign(1, g) for s, g in zip(oracle, gradient, strict=True)]
            oracle = [max(-radius, min(radius, s)) for s in moved]
        else:
            norm = math.hypot(*gradient)
            moved = [s + 0.5 * radius * g / norm for s, g in zip(oracle, gradient, strict=True)]
            oracle = [s * min(1, radius / math.hypot(*moved)) for s in moved]
    start = torch.zeros(1, 3, requires_grad=True)
    first = torch.autograd.grad(loss(start), start)
    (shift,) = Perturbation(direction, steps, 0.5)(loss, list(first), [torch.tensor([[radius]])])
    assert shift[0].tolist() == pytest.approx(oracle, abs=1e-5)
    assert not shift.requires_grad
