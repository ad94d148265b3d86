"""GRU4Rec against torch's own layers, row by row."""

import math

import pytest
import torch
from backbone_setting import DIM, MAX_LEN, example, randomised
from torch import nn

from seqrec.backbones import gru4rec
from seqrec.backbones.gru4rec import GRU4Rec


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_gru4rec(monkeypatch, layers):
    torch.manual_seed(0)
    options = {"hidden": 7, "layers": layers, "embedding_dropout": 0.5, "dropout": 0.5}
    backbone = randomised(GRU4Rec(dim=DIM, max_len=MAX_LEN, **options))
    reference = nn.GRU(DIM, 7, layers, batch_first=True).double()
    for number, layer in enumerate(backbone.layers):
        for name, parameter in layer.recurrent.named_parameters():
            getattr(reference, name.replace("l0", f"l{number}")).copy_(parameter)
    monkeypatch.setattr(gru4rec, "STEPS", 3)
    x, mask = example()
    states = backbone(x, mask)
    for row in range(len(x)):
        hidden = reference(x[row, mask[row]][None])[0][0]
        torch.testing.assert_close(states[row, mask[row]], hidden @ backbone.project.weight.T + backbone.project.bias)


def test_the_gradient_of_gru4rec_reaches_back_through_all_pieces(monkeypatch):
    torch.manual_seed(0)
    backbone = randomised(GRU4Rec(dim=DIM, max_len=MAX_LEN, hidden=7, layers=2, embedding_dropout=0, dropout=0))
    x, mask = example()
    gradients = []
    for steps in (3, MAX_LEN):
        monkeypatch.setattr(gru4rec, "STEPS", steps)
        inputs = x.clone().requires_grad_()
        newest = backbone(inputs, mask)[:, -2]
        gradients.append(torch.autograd.grad(newest.square().sum(), [inputs, *backbone.parameters()]))
    assert gradients[1][0][0, 0].any()
    for piecewise, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(piecewise, whole)


def test_gru4rec_takes_memory_in_proportion_to_the_length_of_a_row():
    backbone = GRU4Rec(dim=DIM, max_len=200, hidden=32, layers=1, embedding_dropout=0, dropout=0)
    allocated = []
    for width in (50, 200):
        states = backbone(torch.randn(4, width, DIM), torch.ones(4, width, dtype=torch.bool))
        with torch.profiler.profile(profile_memory=True) as profile:
            states.sum().backward()
        allocated.append(sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages()))
    assert allocated[1] < 6 * allocated[0]


@torch.no_grad()
def test_gru4rec_begins_orthogonal_and_with_zero_bias():
    torch.manual_seed(0)
    recurrent = GRU4Rec(dim=DIM, max_len=3, hidden=5, layers=1, embedding_dropout=0, dropout=0).layers[0].recurrent
    for gate in recurrent.weight_hh_l0.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5))
    for gate in recurrent.weight_ih_l0.chunk(3):
        assert 0 < gate.abs().max() <= math.sqrt(6 / (DIM + 5))
    assert not recurrent.bias_ih_l0.any()
    assert not recurrent.bias_hh_l0.any()
