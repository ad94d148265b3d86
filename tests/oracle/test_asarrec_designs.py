"""AsarRec's designs that are off by default: what the augmenter sees, and occupancy in the attention of its pass."""

import pytest
import torch
from asarrec_setting import (
    BACKBONES,
    DIM,
    batch_of,
    build,
    gradients_of,
    histories,
    names_of,
    slow_augmenter_loss,
)

from seqrec.utils.errors import UserError
from seqrec.utils.gradients import frozen


@pytest.fixture
def train(sequences_of):
    return histories(sequences_of)


def both_losses(method, batch):
    """The augmenter's loss and its gradients, as trained and literally."""
    extended, names = method.extended(batch), names_of(method, "augmenter")
    with frozen(method.recommender_parameters(), method.backbone):
        made = method.effects(extended)
        fast = method.augmenter_losses(extended, made, method.hard_views(extended, made))["augmenter"]
        slow = slow_augmenter_loss(method, batch)
        return fast, slow, gradients_of(method, fast, names), gradients_of(method, slow, names)


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        *[(backbone, ["method.augmenter_sees=states"]) for backbone in BACKBONES],
        ("sasrec", ["method.occupancy=true"]),
        ("sasrec-end", ["method.occupancy=true", "method.compact=true"]),
        ("sasrec", ["method.occupancy=true", "method.augmenter_sees=states", "method.vector=flat"]),
    ],
)
def test_the_augmenter_loss(train, backbone, changes):
    method = build(train, backbone, *changes)
    fast, slow, mine, wanted = both_losses(method, batch_of(train, method))
    assert fast.item() == pytest.approx(slow.item(), rel=1e-4)
    for name, gradient in wanted.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-3, atol=1e-5), name
    assert max(gradient.abs().max() for gradient in wanted.values()) > 1e-3


def test_occupancy_changes_the_gradient_and_not_the_loss(train):
    found = []
    for occupancy in ("false", "true"):
        method = build(train, "sasrec", f"method.occupancy={occupancy}")
        fast, _, gradients, _ = both_losses(method, batch_of(train, method))
        found.append((fast.item(), gradients["augmenter.query.weight"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert not torch.allclose(found[0][1], found[1][1], rtol=0.05)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("slot", [0, 2])
def test_a_bias_of_log_w_counts_a_key_w_times(train, slot, copies):
    """w equal items at one position are one item whose key has the bias log w, in a layer."""
    backbone = build(train, "sasrec", "backbone.layers=1").backbone.eval()  # deeper ones: the first copy sees no second
    torch.manual_seed(2)
    x, slots = torch.randn(1, 4, DIM), torch.arange(4)
    bias = torch.zeros(1, 4)
    bias[0, slot] = torch.tensor(float(copies)).log()
    got = backbone(x, torch.ones(1, 4, dtype=torch.bool), key_bias=bias)[0, -1]
    repeated = torch.cat([slots[:slot], torch.full((copies,), slot), slots[slot + 1 :]])
    wanted = backbone(x[:, repeated], torch.ones(1, len(repeated), dtype=torch.bool), repeated[None])[0, -1]
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_bias_in_a_padded_batch_belongs_to_its_slot(train, rate):
    backbone = build(train, "sasrec").backbone
    backbone.train(rate > 0)
    mask = torch.tensor([[False, True, True, True], [True, True, False, True], [False, False, False, True]])
    torch.manual_seed(2)
    x, bias = torch.randn(3, 4, DIM), torch.randn(3, 4)
    together = backbone(x, mask, key_bias=bias)
    for row in range(3):
        own = mask[row]
        alone = backbone(
            x[row, own][None], own[own][None], backbone.positions(mask)[row, own][None], key_bias=bias[row, own][None]
        )
        assert torch.allclose(together[row, own], alone[0], atol=1e-5)


def test_states_are_those_of_the_recommender_without_dropout_or_gradient(train):
    method = build(train, "sasrec", "method.augmenter_sees=states", still=False)
    extended = method.extended(batch_of(train, method))
    first = method.seen(extended)
    assert torch.equal(first, method.seen(extended))
    assert not first.requires_grad
    assert method.backbone.training
    assert torch.allclose(first.mean(-1), torch.zeros(first.shape[:2]), atol=1e-6)
    assert not torch.allclose(first, build(train, "sasrec", still=False).seen(extended), atol=0.1)


@pytest.mark.parametrize(
    ("backbone", "change", "message"),
    [
        ("gru4rec", "method.occupancy=true", r"method\.occupancy=true: the backbone has no attention"),
        ("sasrec", "method.augmenter_sees=state", r"method\.augmenter_sees=state: must be one of embeddings, states"),
    ],
)
def test_what_cannot_be(train, backbone, change, message):
    with pytest.raises(UserError, match=message):
        build(train, backbone, change)
