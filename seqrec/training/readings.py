"""What steps log, kept on the device until it is read together, since an accelerator stands still for every read."""

import math

import torch
from torch import Tensor

from seqrec.utils.errors import UserError

READ_EVERY = 100  # steps


class Diverged(UserError):
    """The loss is no longer a finite number."""


class Readings:
    """The logged values of the steps since the last read, and with `deferred` also the losses to check."""

    def __init__(self, deferred: bool):
        self.deferred = deferred
        self.losses: list[tuple[str, Tensor]] = []  # when, and a scalar
        self.names: list[tuple[str, ...]] = []  # of each step
        self.values: list[Tensor] = []  # [number of names] of each step
        self.latest = math.nan  # "loss" of the last step that was read

    def check(self, loss: Tensor, when: str) -> None:
        """Raise Diverged if the loss is not finite; where checks are deferred the next `read` does so."""
        self.losses.append((when, loss.detach()))
        if not self.deferred:
            self._check([float(loss.detach())])

    def add(self, logs: dict[str, Tensor]) -> None:
        """Note the values of a step, scalars by name."""
        self.names.append(tuple(logs))
        self.values.append(torch.stack([value.detach() for value in logs.values()]))

    def read(self, sums: dict[str, float]) -> None:
        """Copy all values to the host at once and add them to `sums` in the order of the steps; raises Diverged."""
        waiting = [loss.reshape(1) for _, loss in self.losses] + self.values
        if not waiting:
            return
        read = torch.cat(waiting).tolist()
        self._check(read)
        values = iter(read[len(waiting) - len(self.values) :])
        for names in self.names:
            for name in names:
                value = next(values)
                sums[name] = sums.get(name, 0.0) + value
                if name == "loss":
                    self.latest = value
        self.names, self.values = [], []

    def _check(self, read: list[float]) -> None:
        for (when, _), loss in zip(self.losses, read, strict=False):
            if not math.isfinite(loss):
                raise Diverged(
                    f"training diverged: the loss is {loss} in {when}. "
                    "Try a lower trainer.optimizer.lr, trainer.clip=1, or trainer.precision=32-true"
                )
        self.losses = []
