"""The plain method: which states meet which loss, and what is scored."""

import dataclasses
import functools

import pytest
import torch
from contract_setting import Contract

from seqrec.backbones.sasrec import SASRec
from seqrec.losses import BinaryCrossEntropy, CrossEntropy, SampledSoftmax
from seqrec.methods.base import Method, ModelSpec

ITEMS, DIM, MAX_LEN = 9, 6, 4
SASREC = functools.partial(
    SASRec,
    layers=1,
    heads=2,
    feedforward=1,
    activation="gelu",
    dropout=0.0,
    attention_dropout=0.0,
    inner_dropout=0.0,
    norm_first=True,
    scale_embedding=True,
    count_from="end",
)


def plain(loss):
    torch.manual_seed(0)
    method = Method(ModelSpec(SASREC, loss, ITEMS, DIM, MAX_LEN))
    for parameter in method.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return method.eval()


@pytest.fixture
def method():
    return plain(CrossEntropy(chunk=2))


def test_states_are_those_of_the_backbone_over_looked_up_items(method, batch):
    x, mask = method.items.weight[batch.seq], batch.seq > 0
    states = method.backbone(x, mask)
    torch.testing.assert_close(method.encode(batch.seq), states)
    torch.testing.assert_close(method.encode(torch.where(mask, 1, 0), x=x), states)
    positions = torch.arange(MAX_LEN).flip(0).expand(3, -1)
    torch.testing.assert_close(method.encode(batch.seq, positions=positions), method.backbone(x, mask, positions))
    assert not torch.allclose(method.encode(batch.seq, positions=positions), states)


def test_the_loss_is_a_mean_over_supervised_slots(method, batch):
    states = method.encode(batch.seq)
    values = []
    for row in range(3):
        for slot in range(MAX_LEN):
            if batch.target[row, slot] > 0:
                logits = states[row, slot] @ method.items.weight[1:].T
                values.append(torch.logsumexp(logits, 0) - logits[batch.target[row, slot] - 1])
    assert len(values) == 7
    logs = method.losses(batch)
    assert list(logs) == ["loss"]
    torch.testing.assert_close(logs["loss"], torch.stack(values).mean())


def test_negatives_stay_with_their_slots(batch):
    method = plain(BinaryCrossEntropy(2))
    negative = torch.randint(1, ITEMS + 1, (3, MAX_LEN, 2)) * (batch.target > 0)[..., None]
    states, values = method.encode(batch.seq), []
    for row in range(3):
        for slot in range(MAX_LEN):
            if batch.target[row, slot] > 0:
                state = states[row, slot][None], batch.target[row, slot][None]
                values.append(method.loss(*state, method.items.weight, negative[row, slot][None]))
    loss = method.losses(dataclasses.replace(batch, negative=negative))["loss"]
    torch.testing.assert_close(loss, torch.stack(values).mean())
    shared = plain(SampledSoftmax(3, 0.0, False))
    loss = shared.losses(dataclasses.replace(batch, negative=torch.tensor([1, 4, 5])))["loss"]
    supervised = batch.target > 0
    expected = shared.loss(states[supervised], batch.target[supervised], shared.items.weight, torch.tensor([1, 4, 5]))
    torch.testing.assert_close(loss, expected)


def test_scores_are_those_of_the_newest_slot(method, batch):
    states = method.encode(batch.seq)
    scores = method.score(batch)
    assert scores.shape == (3, ITEMS + 1)
    for row in range(3):
        for item in range(1, ITEMS + 1):
            torch.testing.assert_close(scores[row, item], (states[row, -1] * method.items.weight[item]).sum())


def test_padding_has_no_embedding_and_no_gradient(method, batch):
    assert not method.items.weight[0].any()
    method.losses(batch)["loss"].backward()
    assert not method.items.weight.grad[0].any()
    assert method.items.weight.grad[1:].any(1).all()


def test_every_parameter_is_in_the_one_group_and_moves(method, batch):
    groups = method.param_groups()
    assert list(groups) == ["model"]
    assert (groups["model"].optimizer, groups["model"].clip) == (None, None)
    parameters = list(groups["model"].parameters)
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in method.parameters()}
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    calls = []

    def update(loss, *names):
        calls.append(names)
        loss.backward()
        optimizer.step()

    logs = method.optimize(batch, update)
    assert calls == [()]
    assert not any(torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    assert method.losses(batch)["loss"] < logs["loss"]


# --- what tests/contract asks


def alive(experiment, log):
    """Nothing beyond what holds for all."""


CONTRACT = Contract(alive)
