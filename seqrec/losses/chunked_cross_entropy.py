"""Full cross-entropy over chunks of logits, with the gradient computed in the forward pass."""

import torch
from torch import Tensor


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(hidden @ table.T)[target] without candidate 0, and the loss of each slot.

    The forward pass computes loss and gradients chunk by chunk, so the buffer of logits stays in cache: on a CPU this takes
    less than half the time of materialised logits (scripts/benchmark.py measures it).
    """

    @staticmethod
    def forward(ctx, hidden, target, table, positive, chunk):
        count = len(target)
        wants_gradient = any(ctx.needs_input_grad)
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        buffer, each = hidden.new_empty(min(chunk, count), len(table)), hidden.new_empty(count, 1)
        missing = hidden.new_empty(count, 1)  # 1 - softmax at the target, where it has an embedding of its own
        for first in range(0, count, chunk):
            at = slice(first, first + chunk)
            states, label = hidden[at], target[at, None]
            logits = torch.mm(states, table.T, out=buffer[: len(states)])
            if positive is not None:
                logits.scatter_(1, label, (states * positive[at]).sum(1, keepdim=True))
            logits[:, 0] = -torch.inf
            largest = logits.amax(1, keepdim=True)
            own = logits.gather(1, label)
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)
            each[at] = largest + total.log() - own
            if wants_gradient:
                if positive is not None:
                    missing[at] = 1 - logits.gather(1, label) / total
                    logits.scatter_(1, label, 0.0)
                scale = 1 / (total * count)
                torch.mm(logits, table, out=grad_hidden[at]).mul_(scale)
                grad_table.addmm_(logits.T, states * scale)
        grad_positive = None
        if wants_gradient and positive is None:
            grad_hidden.sub_(table[target], alpha=1 / count)
            grad_table.index_add_(0, target, hidden, alpha=-1 / count)
        elif wants_gradient:
            grad_hidden.addcmul_(missing, positive, value=-1 / count)
            grad_positive = missing * hidden / -count
        ctx.save_for_backward(grad_hidden, grad_table, grad_positive)
        each = each[:, 0]
        ctx.mark_non_differentiable(each)
        return each.sum() / count, each

    @staticmethod
    def backward(ctx, grad, _):
        grad_hidden, grad_table, grad_positive = ctx.saved_tensors
        return (
            grad_hidden * grad,
            None,
            grad_table * grad,
            None if grad_positive is None else grad_positive * grad,
            None,
        )


def chunked_cross_entropy(
    hidden: Tensor, target: Tensor, table: Tensor, chunk: int, positive: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of targets [n] under hidden [n, D] @ table [V + 1, D].T, candidate 0 excluded, and each slot's, [n].

    `positive` [n, D] replaces the target's row in its slot. Only the mean has a gradient, and only a first one. At most
    `chunk` x (V + 1) logits exist at a time, in the precision of the table also under autocast.
    """
    if not torch.is_grad_enabled():  # inside `apply` gradients are always disabled
        hidden, table, positive = hidden.detach(), table.detach(), None if positive is None else positive.detach()
    positive = None if positive is None else positive.to(table.dtype)
    return _ChunkedCrossEntropy.apply(hidden.to(table.dtype), target, table, positive, chunk)
