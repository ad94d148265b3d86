"""Gradients of several processes, with a stand-in for the other process."""

import torch
from torch import nn

from seqrec.utils.processes import average_gradients


class Two:
    """Two processes, of which the other one has no gradient, or that of row 3."""

    world_size = 2

    def all_reduce(self, values, reduce_op):
        return {"mean": values / 2, "sum": values, "max": values}[reduce_op]

    def all_gather(self, values):
        other = torch.full_like(values, 3) if values.dim() == 1 else torch.full_like(values, 0.5)
        return torch.stack([values, other])


def test_gradients_become_means_over_the_processes():
    weight, idle, table = (nn.Parameter(torch.zeros(*shape)) for shape in ((2, 3), (4,), (5, 2)))
    weight.grad = torch.arange(6.0).view(2, 3)
    table.grad = torch.sparse_coo_tensor(
        [[1, 3, 1]], torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), (5, 2), check_invariants=True
    )
    average_gradients(Two(), [weight, idle, table])
    assert torch.equal(weight.grad, torch.arange(6.0).view(2, 3) / 2)
    assert torch.equal(idle.grad, torch.zeros(4))
    assert table.grad.is_sparse
    expected = torch.zeros(5, 2)
    expected[1] = torch.tensor([6.0, 8.0]) / 2
    expected[3] = (torch.tensor([3.0, 4.0]) + 0.5 + 0.5) / 2  # the other process has two rows 3
    assert torch.equal(table.grad.to_dense(), expected)
