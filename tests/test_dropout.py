import math

import pytest
import torch
import torch.nn.functional as F

from seqrec.backbones import sasrec
from seqrec.backbones.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_as_many_values_are_dropped_as_asked_for_in_every_lane_and_the_rest_is_scaled(rate):
    torch.manual_seed(0)
    x = torch.full((401, 999), 2.0)
    kept = dropout(x, rate)
    assert kept.unique().tolist() == pytest.approx([0, 2 / (1 - rate)], rel=1e-4)
    dropped = (kept == 0).float().flatten()
    error = 5 * math.sqrt(rate * (1 - rate) / 1e5)
    lanes = dropped[: len(dropped) // 4 * 4].view(-1, 4)
    torch.testing.assert_close(lanes.mean(0), torch.full((4,), rate), rtol=0, atol=error)
    for lag in (1, 2, 3, 4, 999):  # each value for itself
        both = (dropped[lag:] * dropped[:-lag]).mean()
        assert float(both) == pytest.approx(rate**2, abs=error)


@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (2, 3, 7)])
def test_shape_type_and_gradient_are_those_of_the_values(shape):
    torch.manual_seed(0)
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(shape, dtype=kind).requires_grad_()
        result = dropout(x, 0.5)
        assert (result.shape, result.dtype) == (x.shape, kind)
        (gradient,) = torch.autograd.grad(result.sum(), x)
        assert set(gradient.flatten().tolist()) <= {0.0, 2.0}
        assert torch.equal(result, x * gradient)


def test_draws_are_those_of_the_global_generator():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_that_is_no_share_is_an_error(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout(torch.ones(4), rate)


def test_all_is_dropped_at_rate_1():
    assert not dropout(torch.ones(100_000), 1.0).any()


def test_an_accelerator_gets_the_rate_as_it_is(monkeypatch):
    x, rates = torch.empty(2, 1, 3, 4, device="meta"), []
    monkeypatch.setattr(F, "dropout", lambda values, rate: rates.append(rate))
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *_, dropout_p, is_causal: rates.append(dropout_p * is_causal)
    )
    dropout(x, 0.3)
    sasrec.causal_attention(x, x, x, 0.3)
    assert rates == [0.3, 0.3]


def test_a_rate_just_below_one_leaves_numbers():
    torch.manual_seed(0)
    assert torch.isfinite(dropout(torch.ones(100_000), 0.9999999)).all()


def test_the_module_drops_in_training_alone_and_draws_nothing_at_rate_0():
    x, state = torch.ones(64), torch.get_rng_state()
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(Dropout(0.5)(x), x)


def test_attention_drops_weights_after_the_softmax(monkeypatch):
    torch.manual_seed(0)
    inputs = [torch.randn(3, 2, 5, 4, dtype=torch.double).requires_grad_() for _ in range(3)]
    monkeypatch.setattr(sasrec, "dropout", lambda weights, rate: weights)
    plain = F.scaled_dot_product_attention(*inputs, is_causal=True)
    whole = sasrec.causal_attention(*inputs, 0.5)
    torch.testing.assert_close(whole, plain)
    for ours, theirs in zip(
        torch.autograd.grad(whole.square().sum(), inputs),
        torch.autograd.grad(plain.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    rates = []
    monkeypatch.setattr(
        sasrec, "dropout", lambda weights, rate: rates.append((weights.shape, rate)) or weights * torch.eye(5)
    )
    query, key, value = inputs
    own = (query @ key.transpose(2, 3) / 2).masked_fill(torch.ones(5, 5).triu(1) == 1, -math.inf).softmax(3)
    torch.testing.assert_close(sasrec.causal_attention(*inputs, 0.25), own.diagonal(dim1=2, dim2=3)[..., None] * value)
    assert rates == [((3, 2, 5, 5), 0.25)]  # each weight for itself
