"""AsarRec's two losses against a slow version that takes one history at a time."""

import math

import pytest
import torch
from asarrec_setting import (
    BACKBONES,
    COMPARED_BY,
    Steps,
    batch_of,
    build,
    gradients_of,
    histories,
    names_of,
    slow_augmenter_loss,
    slow_recommender_loss,
)
from contract_setting import Contract


@pytest.fixture
def train(sequences_of):
    return histories(sequences_of)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_views_of_these_tests_are_of_all_kinds(train, backbone):
    """Or the comparisons below would compare little."""
    method = build(train, backbone)
    method.on_epoch(99)
    logs = method.optimize(batch_of(train, method, size=30 if backbone == "fmlprec" else 10), Steps(method))
    for name in ("dropped", "moved", "inserted", "fallback", "diversity", "invariance"):
        assert logs[name] > 0, name
    assert 0.5 < logs["changed"] < 1


@pytest.mark.parametrize(
    ("vector", "by", "compact", "shortest"),
    [
        ("last", "cosine", "false", 3),
        ("last", "dot", "true", 3),
        ("flat", "dot", "false", 1),
        ("flat", "cosine", "true", 3),
    ],
)
@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=[pytest.mark.slow] * (name != "sasrec")) for name in BACKBONES]
)
def test_both_losses_and_their_gradients_follow_the_equations(train, backbone, vector, by, compact, shortest):
    changes = f"method.vector={vector}", f"method.compact={compact}", f"method.shortest={shortest}"
    method = build(train, backbone, *changes, *COMPARED_BY[by])
    method.on_epoch(99)
    batch = batch_of(train, method, size=30 if backbone == "fmlprec" else 10)
    steps = Steps(method)
    logs = method.optimize(batch, steps)
    (first, augmenter_loss, augmenter_gradient), (second, loss, gradient) = steps.made
    assert (first, second) == (("augmenter",), ("recommender",))
    method.backbone.eval()
    for player, value, found, slow in (
        ("augmenter", augmenter_loss, augmenter_gradient, slow_augmenter_loss(method, batch)),
        ("recommender", loss, gradient, slow_recommender_loss(method, batch)),
    ):
        assert value == pytest.approx(float(slow.detach()), rel=1e-4), player
        names = names_of(method, player)
        squares = 0.0
        for name, wanted in gradients_of(method, slow, names).items():
            if wanted is not None:
                if name == "items.weight":
                    wanted[0] = 0  # padding has no embedding to learn
                torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
                squares += float(wanted.square().sum())
        norm = logs["augmenter_gradient" if player == "augmenter" else "gradient"]
        assert float(norm) == pytest.approx(math.sqrt(squares), rel=1e-3)
    assert float(logs["loss"].detach()) == pytest.approx(
        float(logs["next_item"].detach()) + 0.1 * float(logs["contrast"].detach()), rel=1e-6
    )
    assert logs["augmenter"].item() == pytest.approx(augmenter_loss)


def test_the_same_loss_without_a_step(train):
    method = build(train)
    method.on_epoch(99)
    batch, steps = batch_of(train, method), Steps(method)
    method.optimize(batch, steps)
    assert method.losses(batch)["loss"].detach().item() == pytest.approx(steps.made[1][1], rel=1e-6)


def test_informativeness_is_sought_or_kept_by_its_sign(train):
    terms = {}
    for mode in ("adversarial", "cooperative"):
        method = build(train, "sasrec", f"method.info_mode={mode}", "method.info_weight=2")
        method.on_epoch(99)
        logs = method.optimize(batch_of(train, method), Steps(method))
        terms[mode] = (logs["augmenter"] - 0.1 * logs["diversity"] - logs["invariance"]).item()
    assert terms["adversarial"] == pytest.approx(-2 * logs["contrast"].item(), rel=1e-4)
    assert terms["cooperative"] == pytest.approx(2 * logs["contrast"].item(), rel=1e-4)


def test_every_weight_acts_on_its_term(train):
    base = build(train)
    base.on_epoch(99)
    plain = base.optimize(batch_of(train, base), Steps(base))
    for key, default, name in (("diversity_weight", 0.1, "diversity"), ("invariance_weight", 1.0, "invariance")):
        method = build(train, "sasrec", f"method.{key}=3")
        method.on_epoch(99)
        logs = method.optimize(batch_of(train, method), Steps(method))
        expected = (plain["augmenter"] + (3 - default) * plain[name]).item()
        assert logs["augmenter"].item() == pytest.approx(expected, rel=1e-5)
    method = build(train, "sasrec", "method.weight=.3")
    logs = method.losses(batch_of(train, method))
    assert logs["loss"].item() == pytest.approx(logs["next_item"].item() + 0.3 * logs["contrast"].item(), rel=1e-6)


def test_diversity_is_counted_on_hard_views_and_felt_by_soft_ones(train):
    """Both hard views are the identity: the hinge is at its margin, and its gradient is alive."""
    method = build(
        train, "sasrec", "method.info_weight=0", "method.invariance_weight=0", "method.stay=.95", lively=False
    )
    method.augmenter.gumbel = 0.0
    with torch.no_grad():
        for parameter in method.augmenter.parameters():
            parameter *= 0.1
    method.on_epoch(99)
    steps = Steps(method)
    logs = method.optimize(batch_of(train, method), steps)
    assert logs["changed"] == 0
    assert logs["distance"] == 0
    assert logs["soft_distance"] > 0
    assert logs["diversity"].item() == pytest.approx(0.1)
    assert steps.made[0][2]["augmenter.query.weight"].abs().max() > 0
    far = build(train, "sasrec", "method.diversity_margin=0")
    far.on_epoch(99)
    assert far.optimize(batch_of(train, far), Steps(far))["diversity"] == 0


# --- what tests/contract asks


def alive(experiment, log):
    assert 0.1 <= log["train/changed"] <= 0.6
    assert log["train/augmenter_gradient"] > 1e-4


CONTRACT = Contract(
    alive,
    longer={
        "": ("method.warmup_epochs=2", "trainer.max_epochs=6"),
        "fmlprec": ("trainer.max_epochs=3",),  # prefix rows make eight times the steps
    },
    active=("method.warmup_epochs=0",),
)
