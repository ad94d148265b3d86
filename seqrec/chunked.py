"""Full cross-entropy whose logits never exist at once, with the gradient made on the way."""

import torch
from torch import Tensor


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(hidden @ table.T)[target] without candidate 0.

    One forward pass makes loss and gradients chunk by chunk, so the buffer of logits stays in cache: on a CPU this takes
    less than half the time of materialised logits (scripts/benchmark.py measures it).
    """

    @staticmethod
    def forward(ctx, hidden, target, table, chunk):
        count = len(target)
        wants_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[2]
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        buffer = hidden.new_empty(min(chunk, count), len(table))
        loss = hidden.new_zeros(())
        for first in range(0, count, chunk):
            states = hidden[first : first + chunk]
            logits = torch.mm(states, table.T, out=buffer[: len(states)])
            logits[:, 0] = -torch.inf
            largest = logits.amax(1, keepdim=True)
            own = logits.gather(1, target[first : first + chunk, None])
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)
            loss += (largest + total.log() - own).sum()
            if wants_gradient:
                scale = 1 / (total * count)
                torch.mm(logits, table, out=grad_hidden[first : first + chunk]).mul_(scale)
                grad_table.addmm_(logits.T, states * scale)
        if wants_gradient:
            grad_hidden.sub_(table[target], alpha=1 / count)
            grad_table.index_add_(0, target, hidden, alpha=-1 / count)
        ctx.save_for_backward(grad_hidden, grad_table)
        return loss / count

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad, None, grad_table * grad, None


def chunked_cross_entropy(hidden: Tensor, target: Tensor, table: Tensor, chunk: int) -> Tensor:
    """Return the mean cross-entropy of targets [n] under hidden [n, D] @ table [V + 1, D].T, candidate 0 left out; a scalar.

    At most `chunk` x (V + 1) logits exist at a time, in single precision also under autocast. First derivatives only.
    """
    if not torch.is_grad_enabled():  # inside `apply` one cannot tell
        hidden, table = hidden.detach(), table.detach()
    return _ChunkedCrossEntropy.apply(hidden.float(), target, table.float(), chunk)
