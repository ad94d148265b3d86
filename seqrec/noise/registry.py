"""The noise operators by name, and the settings that choose among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqrec.utils.errors import UserError, must_take, nearest, one_of, within

WHERE = ("anywhere", "begin", "middle", "end", "last")
NUMBERS = range(100)  # other random keys of seqrec have larger words


@dataclass(frozen=True)
class Operator:
    """A noise operator: `act(plan)` edits a seqrec.noise.plan.Plan and returns the number of items that it hit."""

    number: int
    act: Callable[..., int]
    moves: bool


OPERATORS: dict[str, Operator] = {}


def operator(number: int, moves: bool = False) -> Callable:
    """Register a function of a Plan as the noise operator with the function's name.

    `number` is a word of the operator's random keys: once there are results it must never change. Operators with `moves`
    run after the others, so that they reorder items already replaced or deleted. Raises UserError for a name or number that is
    taken, and for a number that is not from 0 to 99.
    """

    def register(act: Callable[..., int]) -> Callable[..., int]:
        name = act.__name__
        numbers = {entry.number: other for other, entry in OPERATORS.items()}
        if name in OPERATORS or number in numbers or number not in NUMBERS:
            raise UserError(f"noise operator '{name}' with number {number}: not from 0 to 99, or taken: {numbers}")
        OPERATORS[name] = Operator(number, act, moves)
        return act

    return register


@dataclass(frozen=True)
class NoiseSettings:
    """Which operators hit which fraction `ratio` of the items, and where (docs/noise.md).

    Raises UserError, naming the key and the value, for an invalid value.
    """

    operators: Sequence[str]
    ratio: float
    where: str = "anywhere"
    last: int = 1  # newest items that where=last covers
    window: int | None = None  # items of a shuffled window; None: one window of all items hit

    def __post_init__(self):
        names = self.operators
        if isinstance(names, str) or not names or len(set(map(str, names))) < len(names):
            raise UserError(f"noise.operators={names}: must be a list of different operators, like [insert,delete]")
        for name in names:
            if not isinstance(name, str) or name not in OPERATORS:
                known = ", ".join(OPERATORS)
                raise UserError(f"noise.operators: no operator '{name}'; there are {known}{nearest(name, OPERATORS)}")
            must_take(f"noise.operators={name}", OPERATORS[name].act, "plan")
        one_of("noise.where", self.where, WHERE)
        within("noise.ratio", self.ratio, 0, 1)
        least = 2 if "swap" in names and self.where == "last" else 1
        if not isinstance(self.last, int) or self.last < least:
            raise UserError(f"noise.last={self.last}: must be a whole number of at least {least}")
        if self.window is not None and (not isinstance(self.window, int) or self.window < 2):
            raise UserError(f"noise.window={self.window}: must be null or a whole number of at least 2")
