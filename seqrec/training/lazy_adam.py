"""Adam for tables of which a step touches few rows, and when the item table is such a table; docs/scale.md has the figures."""

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec.losses import NextItemLoss

# Items from which trainer.sparse=auto takes sparse gradients: by CPU time of a step with 512 shared negatives (64-d, batches of 256)
# dense is faster at 30,000, sparse at 60,000 and more. Where every slot has negatives of its own, the rows to sort are many, and
# it takes this many items for each of a slot's negatives (256 with loss=gbce at 100,000 items: dense is faster).
SPARSE_FROM = 100_000
ITEMS_PER_NEGATIVE = 2_000


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


def has_sparse_rows(
    wanted: bool | str, loss: NextItemLoss, optimizer: Callable[..., torch.optim.Optimizer], num_items: int
) -> bool:
    """Return whether the item table has sparse gradients, given trainer.sparse."""
    if wanted != "auto":
        return wanted
    own = 0 if loss.shared else loss.negatives
    return num_items >= max(SPARSE_FROM, ITEMS_PER_NEGATIVE * own) and why_dense(type(loss), optimizer) is None


def why_dense(loss: type[NextItemLoss], optimizer: Callable[..., torch.optim.Optimizer]) -> str | None:
    """Return why the item table cannot have sparse gradients, or None if it can."""
    if loss.whole_table:
        return "the gradient of this loss reaches every item; take a loss with negatives, like loss=sampled_softmax"
    made = optimizer([torch.nn.Parameter(torch.zeros(1))])
    if type(made) not in (torch.optim.Adam, torch.optim.AdamW):
        return f"trainer.optimizer is {type(made).__name__}; only Adam and AdamW can move the touched rows alone"
    for key in ("weight_decay", "amsgrad", "maximize"):
        if made.defaults[key]:
            return (
                f"trainer.optimizer.{key}={made.defaults[key]} would have to change the rows that a step does not touch"
            )
    return None
