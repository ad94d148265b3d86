"""Work that the processes of a data-parallel run share; without Fabric there is one process."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn


def together(fabric: Fabric | None, work: Callable[[], None]) -> None:
    """Do this process's share of the work; if it fails in any process, all of them end, and the first of these says why.

    Otherwise the others would wait for the one that failed.
    """
    if fabric is None or fabric.world_size == 1:
        work()
        return
    error = None
    try:
        work()
    except Exception as caught:
        error = caught
    failed = [rank for rank in range(fabric.world_size) if fabric.broadcast(error is not None, src=rank)]
    if failed and failed[0] == fabric.global_rank:
        raise error
    if failed:
        raise SystemExit(1)


def summed(fabric: Fabric | None, array: np.ndarray) -> np.ndarray:
    """Return the sum of the arrays of all processes."""
    if fabric is None or fabric.world_size == 1:
        return array
    return fabric.all_reduce(torch.from_numpy(array).to(fabric.device), reduce_op="sum").cpu().numpy()


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over the processes; the dense ones travel as one tensor."""
    if fabric.world_size == 1:
        return
    dense = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad.is_sparse:
            parameter.grad = _mean_of_rows(fabric, parameter.grad)
        else:
            dense.append(parameter.grad)
    if dense:
        mean = fabric.all_reduce(torch.cat([gradient.flatten() for gradient in dense]), reduce_op="mean")
        for gradient, part in zip(dense, mean.split([gradient.numel() for gradient in dense]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _mean_of_rows(fabric: Fabric, gradient: Tensor) -> Tensor:
    """Return the mean of a sparse gradient over the processes, each of which has its own rows."""
    gradient = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    most = int(fabric.all_reduce(torch.tensor(len(rows), device=rows.device), reduce_op="max"))
    fill = most - len(rows)  # padded with zeros for row 0, since all processes must send as much
    rows, values = (fabric.all_gather(part) for part in (F.pad(rows, (0, fill)), F.pad(values, (0, 0, 0, fill))))
    index, values = rows.flatten()[None], values.flatten(0, 1) / fabric.world_size
    return torch.sparse_coo_tensor(index, values, gradient.shape, check_invariants=False).coalesce()


def leave() -> None:
    """Close this process's connections to the others, whose threads may abort it at its end otherwise."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
