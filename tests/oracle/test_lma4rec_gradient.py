"""LMA4Rec's dropout and the gradient of its keep logits: ARM against sums over all masks, the estimators row by row."""

import functools
import itertools
import math

import pytest
import torch
from contrast_setting import Setting

from seqrec.backbones.layout import all_cells, length_blocks
from seqrec.methods.lma4rec.bernoulli_dropout import BernoulliDropout

BACKBONES = ["sasrec", "gru4rec", "fmlprec"]


@pytest.fixture
def setting(sequences_of):
    return functools.partial(Setting, sequences_of, "lma4rec")


@pytest.fixture
def draws(monkeypatch):
    """Let torch.rand give out prepared tensors, one after the other."""
    queue = []
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: queue.pop(0).clone())
    return queue


# --- section 2: the dropout


def opened_by_hand(uniform, keep, mirrored):
    return (uniform > 1 - keep).float() if mirrored else (uniform < keep).float()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("per_unit", [False, True])
def test_gate_opens_by_its_draws_and_scales_by_the_keep_probability(draws, per_unit, mirrored):
    mask = torch.tensor([[False, True, True], [False, False, False], [True, True, True]])
    dropout = BernoulliDropout(2, 0.7, per_unit, share_positions=True, pathwise=True)
    dropout.layout, dropout.mirrored = length_blocks(mask), mirrored
    uniform = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.65, 0.31]])
    draws.append(uniform)
    x = torch.arange(1.0, 1 + 2 * len(dropout.layout.index)).view(-1, 2)
    expected = [
        cell * opened_by_hand(uniform[row], 0.7, mirrored) / 0.7
        for cell, row in zip(x, dropout.layout.row, strict=True)
    ]
    torch.testing.assert_close(dropout(x), torch.stack(expected))


def test_gate_over_padded_rows_has_one_mask_per_row(draws):
    dropout = BernoulliDropout(2, 0.5, False, share_positions=True, pathwise=True)
    dropout.layout = all_cells(torch.ones(2, 3, dtype=torch.bool))
    draws.append(torch.tensor([[0.1, 0.9], [0.7, 0.2]]))
    expected = torch.tensor([[2.0, 0.0], [0.0, 2.0]])[:, None].expand(2, 5, 2)
    torch.testing.assert_close(
        dropout(torch.ones(2, 5, 2)), expected
    )  # more slots than the layout: filled up to max_len


def test_gate_with_a_mask_for_every_slot_sums_its_noise_over_real_cells(draws):
    mask = torch.tensor([[False, True, True], [True, True, True], [False, True, True]])
    dropout = BernoulliDropout(2, 0.5, False, share_positions=False, pathwise=True)
    dropout.layout = length_blocks(mask, shrink=0.1)  # one block: two cells only fill up
    assert len(dropout.layout.index) == 9
    uniform = torch.linspace(0.01, 0.99, 18).view(6, 3).T.reshape(9, 2)
    draws.append(uniform)
    x = torch.ones(9, 2)
    torch.testing.assert_close(dropout(x), opened_by_hand(uniform, 0.5, False) / 0.5)
    expected = torch.zeros(3, 2)
    for cell, (row, place, goes) in enumerate(
        zip(dropout.layout.row, dropout.layout.index, dropout.layout.destination, strict=True)
    ):
        if place == goes:
            expected[row] += uniform[cell] - 0.5
    torch.testing.assert_close(dropout.noise, expected)
    draws.append(uniform.view(3, 3, 2))
    dropout(torch.ones(3, 3, 2))
    torch.testing.assert_close(dropout.noise, (uniform.view(3, 3, 2) - 0.5).sum(1))


def test_gate_is_the_identity_in_evaluation():
    dropout, x = BernoulliDropout(3, 0.2, False, True, True).eval(), torch.randn(4, 3)
    assert torch.equal(dropout(x), x)


def test_gate_keeps_the_mean():
    torch.manual_seed(0)
    dropout = BernoulliDropout(2, 0.3, True, True, True)
    dropout.layout = all_cells(torch.ones(20000, 1, dtype=torch.bool))
    torch.testing.assert_close(dropout(torch.ones(20000, 2)).mean(0), torch.ones(2), atol=0.03, rtol=0)


# --- section 4: the ARM gradient, against sums over all masks


def pieces(keep):
    """Pieces of [0, 1] on which u < keep and u > 1 - keep do not change: (middle, length)."""
    ends = sorted({0.0, 1 - keep, keep, 1.0})
    return [((a + b) / 2, b - a) for a, b in itertools.pairwise(ends)]


def expected_gradient(method, batch, draws, keep, shapes, fixed):
    """Integrate the gradient of the logits exactly over the draws of `shapes`; those in `fixed` keep their value.

    Both openings are constant on a piece and u - 1/2 is linear, so the middle of a piece stands for all of it.
    """
    logits = [dropout.logit for dropout in method.dropouts]
    total = [torch.zeros_like(logit) for logit in logits]
    free = sum(math.prod(shape) for shape in shapes)
    for combination in itertools.product(pieces(keep), repeat=free):
        values = iter([middle for middle, _ in combination])
        weight = math.prod(length for _, length in combination)
        own = [torch.tensor([next(values) for _ in range(math.prod(shape))]).view(shape) for shape in shapes]
        own = [torch.cat([head, tail]) for head, tail in zip(fixed, own, strict=True)]
        draws.extend(own * 2)  # the mirrored pass draws the same
        gradients = torch.autograd.grad(method.losses(batch)["loss"], logits)
        total = [summed + weight * gradient for summed, gradient in zip(total, gradients, strict=True)]
    assert not draws
    return torch.cat(total)


def exact_gradient(method, batch, draws, keep, shapes, fixed, value):
    """Differentiate the sum over all masks of probability times value, the probability being a function of the logits."""
    logits = [dropout.logit for dropout in method.dropouts]
    total = 0.0
    free = [math.prod(shape) for shape in shapes]
    for combination in itertools.product([True, False], repeat=sum(free)):
        masks = iter(combination)
        probability, own = 1.0, []
        for dropout, shape, head in zip(method.dropouts, shapes, fixed, strict=True):
            opened = torch.tensor([next(masks) for _ in range(math.prod(shape))]).view(shape)
            eta = torch.sigmoid(dropout.logit)
            probability = probability * torch.where(opened, eta, 1 - eta).prod()
            own.append(torch.cat([head, torch.where(opened, keep / 2, (1 + keep) / 2)]))
        draws.extend(own)
        total = total + probability * value(method, batch)
    assert not draws
    return torch.cat(torch.autograd.grad(total, logits))


def next_item_alone(method, batch):
    return method.next_item_loss(method.encode(batch.seq), batch)


# LayerNorm over two units leaves nothing but signs, so the normalised backbones have three
TINY = {
    "sasrec": {"keys": ("backbone.heads=1",), "dim": 3, "rows": [[1, 2, 3]], "units": (1, 3)},
    "gru4rec": {"keys": ("backbone.hidden=2",), "dim": 3, "rows": [[1, 2, 3], [4, 5]], "units": (2, 2)},
    "fmlprec": {"keys": (), "dim": 3, "rows": [[1, 2]], "units": (1, 3)},
}


def tiny(setting, backbone, *keys):
    case = TINY[backbone]
    tried = setting(*case["keys"], *keys, backbone=backbone, dim=case["dim"], rows=case["rows"])
    with torch.no_grad():
        tried.method.items.weight *= 4  # for gradients well above rounding
    return tried, case["units"]


@pytest.mark.parametrize("keep", [0.5, 0.7, 0.2])
@pytest.mark.parametrize("per_unit", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_arm_with_the_pathwise_term_is_the_exact_gradient_of_the_next_item_loss(
    setting, draws, backbone, per_unit, keep
):
    keys = (f"method.keep={keep}", f"method.per_unit={per_unit}", "method.without=ssl", "backbone.layers=1")
    tried, shape = tiny(setting, backbone, *keys)
    given = (tried.method, tried.batch, draws, keep, [shape], [torch.zeros(0, shape[1])])
    estimate, exact = expected_gradient(*given), exact_gradient(*given, next_item_alone)
    assert exact.abs().max() > 2e-3
    torch.testing.assert_close(estimate, exact, atol=2e-6, rtol=1e-3)


def test_arm_is_exact_over_two_layers(setting, draws):
    tried, shape = tiny(setting, "sasrec", "method.without=ssl", "backbone.layers=2")
    given = (tried.method, tried.batch, draws, 0.5, [shape] * 2, [torch.zeros(0, 3)] * 2)
    estimate, exact = expected_gradient(*given), exact_gradient(*given, next_item_alone)
    assert exact.abs().max() > 2e-3
    torch.testing.assert_close(estimate, exact, atol=2e-6, rtol=1e-3)


def test_without_the_pathwise_term_the_gradient_is_arm_s_alone_and_not_exact(setting, draws):
    keys = ("method.keep=.7", "method.without=ssl", "backbone.layers=1", "method.pathwise=false")
    tried, shape = tiny(setting, "sasrec", *keys)
    given = (tried.method, tried.batch, draws, 0.7, [shape], [torch.zeros(0, 3)])
    estimate = expected_gradient(*given)
    # the scale as a constant: the same sum over masks, differentiated through the probabilities alone
    torch.testing.assert_close(estimate, exact_gradient(*given, next_item_alone), atol=1e-6, rtol=1e-3)
    tried.method.dropouts[0].pathwise = True
    assert (estimate - exact_gradient(*given, next_item_alone)).abs().min() > 1e-3


def contrast_alone(method, batch):
    return method.weight * method.states(batch, method.drawn)[1].mean()


def test_the_exact_contrast_estimator_is_the_exact_gradient(setting, draws):
    keys = ("method.contrast_gradient=exact", "method.per_unit=true", "method.weight=.7", "backbone.layers=1")
    tried, _ = tiny(setting, "gru4rec", *keys)
    method, batch = tried.method, tried.batch
    views = torch.tensor([[1, 0], [0, 4], [2, 1], [4, 9]])
    method.drawn = views, torch.tensor([[True, True], [False, True], [True, True], [True, True]])
    method.views = lambda seq, similar: method.drawn
    clean = torch.tensor([[0.3, 0.8], [0.6, 0.1]])  # held fixed: what they add does not depend on the views
    given = (method, batch, draws, 0.5, [(4, 2)], [clean])
    estimate, exact = expected_gradient(*given), exact_gradient(*given, contrast_alone)
    draws.extend([torch.cat([clean, torch.full((4, 2), 0.25)])] * 2)
    torch.testing.assert_close(estimate - next_item_part(method, batch), exact, atol=2e-6, rtol=1e-3)
    assert exact.abs().max() > 2e-3


def next_item_part(method, batch):
    """Gradient of the logit that stems from the next-item loss: weight 0 takes the contrast away."""
    method.weight, weight = 0.0, method.weight
    gradient = torch.autograd.grad(method.losses(batch)["loss"], [method.dropouts[0].logit])[0]
    method.weight = weight
    return gradient


# --- the estimators, literally


def recorded(method, batch, seed):
    """Replay a step by hand: losses of both passes by row and by anchor, and each dropout's noise."""
    views = method.views(batch.seq, method.similar)
    method.views = lambda seq, similar: views
    passes = []
    for mirrored in (True, False):
        torch.manual_seed(seed)
        for dropout in method.dropouts:
            dropout.mirrored = mirrored
        hidden, anchors, _ = method.states(batch, views)
        supervised = batch.target > 0
        negative = (
            batch.negative[supervised] if batch.negative is not None and batch.negative.dim() == 3 else batch.negative
        )
        slots = method.loss.per_slot(hidden[supervised], batch.target[supervised], method.items.weight, negative)
        rows = [0.0] * len(batch.user)
        for row, value in zip(supervised.nonzero()[:, 0].tolist(), slots.tolist(), strict=True):
            rows[row] += value / len(slots)
        passes.append((rows, anchors.tolist()))
    return passes, [dropout.noise.tolist() for dropout in method.dropouts]


@pytest.mark.parametrize(
    ("backbone", "loss", "share", "estimator"),
    [
        *((backbone, "bce", share, "own_rows") for backbone in BACKBONES for share in (True, False)),
        *((backbone, "bce", True, "exact") for backbone in BACKBONES),
        *(("sasrec", loss, True, "own_rows") for loss in ("cross_entropy", "sampled_softmax", "gbce", "bpr")),
    ],
)
def test_each_row_s_change_weighs_its_own_draws(setting, backbone, loss, share, estimator):
    tried = setting(
        f"method.contrast_gradient={estimator}",
        f"method.share_positions={share}",
        "method.pathwise=false",
        "method.weight=.3",
        backbone=backbone,
        loss=loss,
        dropout=True,
    )
    method, batch = tried.method, tried.batch
    (mirrored, plain), noise = recorded(method, batch, seed=11)
    torch.manual_seed(11)
    logs = method.losses(batch)
    made = torch.autograd.grad(logs["loss"], [dropout.logit for dropout in method.dropouts])
    size = len(batch.user)
    changes = [b - a for a, b in zip(plain[0], mirrored[0], strict=True)]
    anchors = [b - a for a, b in zip(plain[1], mirrored[1], strict=True)]
    whole = sum(anchors) / (2 * size)
    for gradient, draws_of in zip(made, noise, strict=True):
        expected = sum(changes[row] * sum(draws_of[row]) for row in range(size))
        for view in range(2 * size):
            own = whole if estimator == "exact" else (anchors[view] + anchors[(view + size) % (2 * size)]) / (2 * size)
            expected += 0.3 * own * sum(draws_of[size + view])
        assert gradient.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert logs["next_item"].item() == pytest.approx(sum(plain[0]), rel=1e-4)
    assert logs["contrast"].item() == pytest.approx(sum(plain[1]) / (2 * size), rel=1e-4)
    assert logs["loss"].item() == pytest.approx(sum(plain[0]) + 0.3 * sum(plain[1]) / (2 * size), rel=1e-4)


@pytest.mark.slow
def test_logged_spread_is_that_of_the_gradient_over_draws(setting):
    tried = setting("method.pathwise=false", "method.without=ssl", dropout=True)
    logits = [dropout.logit for dropout in tried.method.dropouts]
    logged, gradients = [], []
    for seed in range(120):
        torch.manual_seed(seed)
        logs = tried.method.losses(tried.batch)
        logged.append(logs["gradient_sd_next_item"] ** 2)
        gradients.append(torch.cat(torch.autograd.grad(logs["loss"], logits)))
    seen = torch.stack(gradients).var(0).sum().sqrt().item()
    assert torch.stack(logged).mean().sqrt().item() == pytest.approx(seen, rel=0.3)
