"""What the test file of a method tells tests/contract of it, as `CONTRACT`."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contract:
    """A method's own part of what tests/contract/test_methods.py asks of every method.

    `alive(experiment, log)` asserts, after a short training, that the method does what makes it one; `log` is the last entry of
    its history. `longer` has overrides of that training, by backbone, "" for all.
    """

    alive: Callable
    longer: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loss: str = "bce"
    active: tuple[str, ...] = ()  # overrides with which the first epoch does what makes it a method
    at_test: tuple[str, ...] = ()  # what scores need beside items and backbone; they may then cost twice as much
    pages: tuple[str, ...] = ()  # of other methods in docs/methods whose keys it has too
