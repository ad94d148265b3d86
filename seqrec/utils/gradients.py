"""Helpers for methods that update two networks in turn."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def frozen(parameters: Iterable[nn.Parameter], network: nn.Module) -> Iterator[None]:
    """Keep gradients off parameters, and `network` in eval mode; gradients still pass through."""
    moving = [parameter for parameter in parameters if parameter.requires_grad]
    modes = [(module, module.training) for module in network.modules()]
    for parameter in moving:
        parameter.requires_grad_(False)
    for module, _ in modes:
        module.training = isinstance(module, nn.RNNBase)  # cuDNN has no backward pass of a recurrent layer in eval mode
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


def entries(parameter: nn.Parameter) -> Tensor:
    """Return the gradient of a parameter, or of a sparse one the values of its rows, each of which it then has once."""
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()


def clip(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale gradients, dense or sparse, to a joint L2 norm of at most `largest`."""
    gradients = [entries(parameter) for parameter in parameters if parameter.grad is not None]
    factor = (largest / (torch.nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor)


@contextmanager
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Iterator[Callable[[], Tensor]]:
    """Yield a function that returns the L2 norm of the gradient that came to parameters within, before any clipping."""
    squares = []

    def add(parameter: nn.Parameter) -> None:
        squares.append(entries(parameter).square().sum())

    handles = [parameter.register_post_accumulate_grad_hook(add) for parameter in parameters]
    try:
        yield lambda: torch.stack(squares).sum().sqrt()
    finally:
        for handle in handles:
            handle.remove()
