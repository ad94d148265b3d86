"""Adam for tables of which a step touches few rows, and when the item table is such a table; docs/scale.md has the figures."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from seqrec.losses import NextItemLoss
from seqrec.utils.errors import UserError

# Items from which trainer.sparse=auto takes sparse gradients: scripts/benchmark.py --catalogue 10000,100000 loss=sampled_softmax
# trainer.sparse=false, and with true. Smaller catalogues gain less, and keep the results that they had.
SPARSE_FROM = 100_000


class LazyAdam(torch.optim.Adam):
    """Adam, but a sparse gradient moves its own rows alone: all others stay, and so do their moments.

    The correction of the moments' bias counts the steps of the table, not those of a row. Where every row has a gradient, and
    for dense gradients, it is Adam. Source: the lazy variant of Kingma and Ba (2015), as torch.optim.SparseAdam, which
    takes 1.7 times as long.
    """

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """Make one step down the gradients, sparse or dense."""
        tables = [
            (group, table, table.grad.coalesce())
            for group in self.param_groups
            for table in group["params"]
            if table.grad is not None and table.grad.is_sparse
        ]
        for _, table, _ in tables:
            table.grad = None
        super().step(closure)
        for group, table, gradient in tables:
            table.grad = gradient
            self._move(table, gradient.indices()[0], gradient.values(), group)

    def _move(self, table: Tensor, rows: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        (decay, decay_square), step = group["betas"], float(state["step"])
        mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - decay)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(decay_square)
        square.addcmul_(gradient, gradient, value=1 - decay_square)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        size = square.sqrt_().div_((1 - decay_square**step) ** 0.5).add_(group["eps"])
        table.index_add_(0, rows, mean.div_(size), alpha=-group["lr"] / (1 - decay**step))


def has_sparse_rows(wanted: bool | str, loss: type[NextItemLoss], optimizer: partial, num_items: int) -> bool:
    """Return whether the item table has sparse gradients, given trainer.sparse.

    Raises UserError where they are `wanted` and the loss or the optimiser cannot have them.
    """
    reason = why_dense(loss, optimizer)
    if wanted is True and reason:
        raise UserError(f"trainer.sparse=true: {reason}")
    return num_items >= SPARSE_FROM and not reason if wanted == "auto" else wanted


def why_dense(loss: type[NextItemLoss], optimizer: partial) -> str | None:
    """Return why the item table cannot have sparse gradients, or None if it can."""
    if loss.whole_table:
        return "the gradient of this loss reaches every item; take a loss with negatives, like loss=sampled_softmax"
    if optimizer.func not in (torch.optim.Adam, torch.optim.AdamW):
        return f"trainer.optimizer is {optimizer.func.__name__}; only Adam and AdamW can move the touched rows alone"
    settings = optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults
    for key in ("weight_decay", "amsgrad", "maximize"):
        if settings[key]:
            return f"trainer.optimizer.{key}={settings[key]} would have to change the rows that a step does not touch"
    return None
