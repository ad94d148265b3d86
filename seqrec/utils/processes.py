"""Work that the processes of a data-parallel run share; without Fabric there is one process."""

from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric


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
