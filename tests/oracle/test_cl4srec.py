"""CL4SRec against its page: the loss, which version runs, what a step moves."""

import functools
import math

import pytest
import torch
from contract_setting import Contract
from contrast_setting import (
    DIM,
    Setting,
    configure,
    contrast_is_alive,
    literal_contrast,
    literal_next_item,
    train_on_synthetic,
)

from seqrec.losses import BinaryCrossEntropy
from seqrec.methods.base import ModelSpec
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import make

DUOREC_VERSION = (
    "method.vector=last",
    "method.views.short=[]",
    "method.views.distinct=true",
    "method.views.crop=.6",
    "method.views.mask=.3",
    "method.views.reorder=.6",
)


@pytest.fixture
def setting(sequences_of):
    return functools.partial(Setting, sequences_of, "cl4srec")


def fixed_views(method, batch):
    """Draw views once and let the method draw the same ones again."""
    views, taken = method.views(batch.seq)
    method.views = lambda seq: (views, taken)
    return views, taken


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
@pytest.mark.parametrize("version", [(), DUOREC_VERSION])
def test_loss_is_next_item_plus_weight_times_nt_xent(setting, version, backbone):
    tried = setting("method.weight=.25", *version, backbone=backbone)
    method, batch = tried.method, tried.batch
    views, taken = fixed_views(method, batch)
    logs = method.losses(batch)
    rows = literal_next_item(method, batch)
    count = sum(len(row) for row in rows)
    next_item = sum(sum(row) for row in rows) / count
    anchors = literal_contrast(method, batch, views, taken, method.contrast.vector)
    assert logs["next_item"].item() == pytest.approx(next_item, rel=1e-4)
    assert logs["contrast"].item() == pytest.approx(sum(anchors) / len(anchors), rel=1e-4)
    assert logs["loss"].item() == pytest.approx(next_item + 0.25 * sum(anchors) / len(anchors), rel=1e-4)


def test_a_blanked_oldest_item_leaves_the_others_at_their_positions(setting):
    method, batch = setting("method.vector=last").method, setting().batch
    view = batch.seq.repeat(2, 1)
    row = int((batch.seq > 0).sum(1).argmax())
    view[row, int((batch.seq[row] > 0).int().argmax())] = 0
    method.views = lambda seq: (view, (seq > 0).repeat(2, 1))
    expected = literal_contrast(method, batch, view, (batch.seq > 0).repeat(2, 1), "last")
    moved = literal_contrast(method, batch, view, view > 0, "last")
    contrast = method.losses(batch)["contrast"].item()
    assert contrast == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert contrast != pytest.approx(sum(moved) / len(moved), rel=1e-4)


def test_rows_of_the_same_user_are_left_out_of_the_denominator(setting):
    tried = setting(backbone="fmlprec")
    method, batch = tried.method, tried.batch
    assert len(set(batch.user.tolist())) < len(batch.user)  # a target is a row of its own
    fixed_views(method, batch)
    own = method.losses(batch)["contrast"].item()
    apart = type(batch)(torch.arange(len(batch.user)), batch.seq, batch.target, batch.index, batch.negative)
    assert own < method.losses(apart)["contrast"].item() - 1e-3


def test_defaults_are_those_of_the_version_on_the_page():
    values = configure("method=cl4srec")["method"]
    assert {key: values[key] for key in ("weight", "vector", "cosine", "temperature")} == {
        "weight": 0.1,
        "vector": "flat",
        "cosine": False,
        "temperature": 1.0,
    }
    views = values["views"]
    assert (views["crop"], views["mask"], views["reorder"], views["distinct"]) == (0.2, 0.7, 0.2, False)
    assert set(views["long"]) == set(views["short"]) == {"crop", "mask", "reorder"}
    assert not views["released"]


def test_in_duorecs_version_a_single_item_is_not_augmented_and_operators_differ(setting):
    views = setting(*DUOREC_VERSION).method.views
    first, second = views.draw(torch.tensor([1, 2] * 200))
    assert (first[::2] == -1).all()
    assert (second[::2] == -1).all()
    assert (first[1::2] >= 0).all()
    assert (first[1::2] != second[1::2]).all()


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "sampled_softmax", "gbce", "bpr"])
def test_a_step_moves_all_but_padding_and_both_terms_reach_items_and_backbone(setting, backbone, loss):
    tried = setting(backbone=backbone, loss=loss, dropout=True)
    method, batch = tried.method, tried.batch
    logs = method.losses(batch)
    trained = dict(method.named_parameters())
    for term in ("next_item", "contrast"):
        gradients = torch.autograd.grad(logs[term], list(trained.values()), retain_graph=True, allow_unused=True)
        reached = {name for name, value in zip(trained, gradients, strict=True) if value is not None and value.any()}
        assert reached == set(trained)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    logs["loss"].backward()
    optimizer.step()
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(trained)
    assert not method.items.weight[0].any()
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


def test_encoding_the_views_costs_one_call(setting, monkeypatch):
    tried = setting()
    calls = []
    run = tried.method.backbone.run
    monkeypatch.setattr(tried.method.backbone, "run", lambda *given: calls.append(1) or run(*given))
    tried.method.losses(tried.batch)
    assert len(calls) == 1


def test_scores_are_those_of_the_backbone_alone(setting):
    method, batch = setting(dropout=True).method.eval(), setting().batch
    method.views = None
    states = literal_states_of_newest(method, batch)
    torch.testing.assert_close(method.score(batch), states @ method.items.weight.T, atol=1e-5, rtol=1e-5)


def literal_states_of_newest(method, batch):
    return torch.cat([method.encode(row[row > 0][None])[:, -1] for row in batch.seq])


def test_without_weight_the_gradient_is_that_of_the_plain_method(setting):
    tried = setting("method.weight=0")
    method, batch = tried.method, tried.batch
    method.losses(batch)["loss"].backward()
    made = [parameter.grad.clone() for parameter in method.parameters()]
    method.zero_grad()
    method.next_item_loss(method.encode(batch.seq), batch).backward()
    for own, plain in zip(made, method.parameters(), strict=True):
        torch.testing.assert_close(own, plain.grad, atol=1e-5, rtol=1e-4)


def test_constructor_takes_the_page_s_keys_alone():
    values = configure("method=cl4srec")
    with pytest.raises(UserError):
        make({**values["method"], "typo": 1}, spec=ModelSpec(None, BinaryCrossEntropy(1), 3, DIM, 3))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("version", [(), DUOREC_VERSION])
def test_alive_views_of_a_sequence_find_each_other(noise, version):
    _, logs = train_on_synthetic(noise, 12, "method=cl4srec", "loss=bce", *version)
    late = logs[-10:]
    accuracy = sum(log["contrast_accuracy"] for log in late) / len(late)
    chance = 1 / 127  # 64 rows, 2 views
    assert accuracy > 20 * chance
    assert sum(log["next_item"] for log in late) < sum(log["next_item"] for log in logs[:10])
    assert all(math.isfinite(log["loss"]) for log in logs)


# --- what tests/contract asks


CONTRACT = Contract(contrast_is_alive)
