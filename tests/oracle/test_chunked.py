"""Cross-entropy in chunks against the same from whole logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec.losses.chunked_cross_entropy import chunked_cross_entropy

SLOTS, ITEMS, DIM = 7, 11, 5


def chunk_example(rows, wants=(True, True)):
    torch.manual_seed(rows)
    hidden = torch.randn(rows, DIM, requires_grad=wants[0])
    table = torch.randn(ITEMS + 1, DIM, requires_grad=wants[1])
    return hidden, torch.randint(1, ITEMS + 1, (rows,)), table


def dense_cross_entropy(hidden, target, table):
    logits = hidden @ table.T
    logits[:, 0] = -math.inf
    return F.cross_entropy(logits, target)


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 130])
@pytest.mark.parametrize("chunk", [1, 16, 128])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
@pytest.mark.parametrize("wants", [(True, True), (True, False), (False, True)])
@pytest.mark.filterwarnings("error")  # torch warns where a buffer has to grow
def test_chunked_cross_entropy(rows, chunk, upstream, wants):
    hidden, target, table = chunk_example(rows, wants)
    inputs = [tensor for tensor in (hidden, table) if tensor.requires_grad]
    (ours, each), theirs = (
        chunked_cross_entropy(hidden, target, table, chunk),
        dense_cross_entropy(hidden, target, table),
    )
    torch.testing.assert_close(ours, theirs)
    assert not each.requires_grad
    torch.testing.assert_close(each.mean(), theirs)
    for one, other in zip(
        torch.autograd.grad(upstream * ours, inputs), torch.autograd.grad(upstream * theirs, inputs), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_chunked_cross_entropy_leaves_its_inputs_alone_and_needs_no_gradient():
    hidden, target, table = chunk_example(20, wants=(False, False))
    before = hidden.clone(), table.clone()
    value = chunked_cross_entropy(hidden, target, table, 8)[0]
    assert not value.requires_grad
    torch.testing.assert_close(value, dense_cross_entropy(hidden, target, table))
    assert torch.equal(hidden, before[0])
    assert torch.equal(table, before[1])


def test_chunked_cross_entropy_takes_large_logits():
    hidden, target, table = chunk_example(6)
    ours, theirs = (
        chunked_cross_entropy(hidden * 1e3, target, table, 4)[0],
        dense_cross_entropy(hidden * 1e3, target, table),
    )
    torch.testing.assert_close(ours, theirs)
    gradients = torch.autograd.grad(ours, [hidden, table])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_chunked_cross_entropy_works_in_single_precision_under_autocast():
    hidden, target, table = chunk_example(40)
    with torch.autocast("cpu", torch.bfloat16):
        low = hidden @ torch.eye(DIM)
        assert low.dtype == torch.bfloat16
        value = chunked_cross_entropy(low, target, table, 16)[0]
    assert value.dtype == torch.float32
    exact = dense_cross_entropy(low.float(), target, table)
    torch.testing.assert_close(value, exact)
    ours, theirs = (torch.autograd.grad(loss, [low, table], retain_graph=True) for loss in (value, exact))
    assert ours[0].dtype == torch.bfloat16
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch):
    hidden, table = torch.randn(SLOTS, DIM, requires_grad=True), torch.randn(ITEMS + 1, DIM, requires_grad=True)
    target = torch.arange(1, SLOTS + 1)
    wanted = chunked_cross_entropy(hidden, target, table, 3)[0].item()
    monkeypatch.setattr(Tensor, "addmm_", lambda *_: pytest.fail("the table's gradient was made"))
    with torch.no_grad():
        assert chunked_cross_entropy(hidden, target, table, 3)[0].item() == wanted
