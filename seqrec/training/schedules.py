"""Learning-rate schedules: functions of the step that scale the optimiser's learning rate."""

import math
from collections.abc import Callable

from seqrec.utils.errors import UserError


def constant(warmup: int, _total: int) -> Callable[[int], float]:
    """Rise linearly for `warmup` steps, then stay at 1."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def linear(warmup: int, total: int) -> Callable[[int], float]:
    """Rise linearly for `warmup` steps, then fall linearly to 0 at step `total`; raises UserError if none is left to fall in."""
    rise = constant(warmup, total)
    _check_that_a_fall_follows(warmup, total)
    return lambda step: rise(step) * min(1.0, max(0.0, (total - step) / (total - warmup)))


def cosine(warmup: int, total: int) -> Callable[[int], float]:
    """Rise linearly for `warmup` steps, then fall along half a cosine to 0 at step `total`; raises UserError like `linear`."""
    rise = constant(warmup, total)
    _check_that_a_fall_follows(warmup, total)

    def factor(step: int) -> float:
        progress = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
        return rise(step) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def _check_that_a_fall_follows(warmup: float, total: int) -> None:
    if warmup >= total:
        raise UserError(
            "trainer.warmup_epochs takes up the whole training: lower it, raise trainer.max_epochs (method.stage2_epochs of CAT's second "
            "stage), or take trainer.schedule=constant"
        )


SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine}
