"""Crop, mask, reorder, substitute, insert: views of item sequences, drawn for whole batches.

The operators take ids seq [B, T], left-padded and without holes, and draw independently for every row, from torch's global
generator. n is a row's number of items; counts are int(ratio * n) in double precision, as in CoSeRec's code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec.utils.errors import UserError, within

OPERATORS = ("crop", "mask", "reorder", "substitute", "insert")


def crop(seq: Tensor, ratio: float, miss_newest: bool = False) -> Tensor:
    """Keep a window of int(ratio * n) items, at least one, right-aligned [B, T]; all positions of the window are equally likely.

    `miss_newest` excludes the last position, as the off-by-one in CoSeRec's code does for windows that are not empty.
    """
    slot, length = _slots(seq), _length(seq)
    count = _count(ratio, length)
    kept = count.clamp(min=1).minimum(length)
    older = _start(length - kept - (int(miss_newest) * count).clamp(max=1))
    newer = length - kept - older
    return seq.gather(1, (slot - newer).clamp(min=0)) * (slot >= seq.shape[1] - kept)


def mask(seq: Tensor, ratio: float) -> Tensor:
    """Set int(ratio * n) items to 0; the others keep their slots [B, T]."""
    return seq.masked_fill(_choose(seq, _count(ratio, _length(seq))), 0)


def reorder(seq: Tensor, ratio: float, miss_newest: bool = False) -> Tensor:
    """Shuffle a window of int(ratio * n) items [B, T]; `miss_newest` keeps it off the newest item, as in CoSeRec's code."""
    slot, length = _slots(seq), _length(seq)
    width = _count(ratio, length)
    first = seq.shape[1] - length + _start(length - width - int(miss_newest))
    inside = (slot >= first) & (slot < first + width)
    # keys of the window are strictly between those of its neighbours
    key = torch.where(inside, first - 0.5 + width * torch.rand(seq.shape, device=seq.device), slot)
    return seq.gather(1, key.argsort(1))


def substitute(seq: Tensor, ratio: float, similar: Tensor) -> Tensor:
    """Replace max(int(ratio * n), 1) items by their similar ones [B, T]; `similar` [V + 1] holds an item's nearest."""
    return torch.where(_choose(seq, _count(ratio, _length(seq)).clamp(min=1)), similar[seq], seq)


def insert(seq: Tensor, ratio: float, similar: Tensor) -> Tensor:
    """Insert their similar items before max(int(ratio * n), 1) items; right-aligned and wider, [B, T + max(int(ratio * T), 1)]."""
    rows, width = seq.shape
    chosen = _choose(seq, _count(ratio, _length(seq)).clamp(min=1))
    growth = max(int(ratio * width), 1)
    at_or_after = chosen.flip(1).cumsum(1).flip(1)
    slot_of = _slots(seq) + growth - at_or_after + chosen
    row, slot = chosen.nonzero(as_tuple=True)
    wider = seq.new_zeros(rows, width + growth).scatter(1, slot_of, seq)
    wider[row, slot_of[row, slot] - 1] = similar[seq[row, slot]]
    return wider


class Views:
    """Draws two views of every row: an operator chosen uniformly from the row's set, for each view.

    Rows of at most `threshold` items choose from the set `short`, others from `long`; with an empty set a row does
    not change, with threshold -1 no row is short. `distinct` makes the two operators of a row differ (where the set has
    two). The other keys are the operators' ratios. `released` reproduces two errors of CoSeRec's code: windows exclude the
    newest item, and with a threshold above 0 `reorder` has the ratio of `mask`. Raises UserError on a value outside its
    range.
    """

    def __init__(
        self,
        max_len: int,
        long: list[str],
        short: list[str],
        threshold: int,
        distinct: bool,
        crop: float,
        mask: float,
        reorder: float,
        substitute: float,
        insert: float,
        released: bool,
    ):
        self.max_len, self.threshold, self.distinct, self.released = max_len, threshold, distinct, released
        self.ratios = dict(zip(OPERATORS, (crop, mask, reorder, substitute, insert), strict=True))
        self.sets = {"long": long, "short": short}
        for name, value in self.ratios.items():
            within(f"method.views.{name}", value, 0, 1)
        for key, names in self.sets.items():
            for name in names:
                if name not in OPERATORS:
                    raise UserError(f"method.views.{key}: no operator '{name}'; there are {', '.join(OPERATORS)}")
        if released and threshold > 0:
            self.ratios["reorder"] = mask

    @property
    def informed(self) -> bool:
        """Whether any operator needs similar items."""
        return not {"substitute", "insert"}.isdisjoint(self.sets["long"] + self.sets["short"])

    def __call__(self, seq: Tensor, similar: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return views [2B, W] of seq [B, T], row b's in rows b and B + b, and which slots they occupy, holes included.

        They are right-aligned and truncated to the newest `max_len` slots; T <= W <= max_len. `similar` [V + 1] is the table
        of nearest items.
        """
        drawn = torch.cat(self.draw(_length(seq).squeeze(1)))
        seq = seq.repeat(2, 1)
        growth = max(int(self.ratios["insert"] * seq.shape[1]), 1) if self.informed else 0
        views = F.pad(seq, (min(growth, self.max_len - seq.shape[1]), 0))
        taken = views > 0
        for number, name in enumerate(OPERATORS):
            rows = (drawn == number).nonzero().squeeze(1)
            if len(rows):
                view = self.apply(name, seq[rows], similar)[:, -views.shape[1] :]
                view = F.pad(view, (views.shape[1] - view.shape[1], 0))
                views[rows] = view
                if name != "mask":
                    taken[rows] = view > 0
        return views, taken

    def draw(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the operators of the two views of rows of `length` [B], as indices into OPERATORS, -1 = none."""
        first, second = torch.full_like(length, -1), torch.full_like(length, -1)
        is_short = length <= self.threshold
        for names, rows in ((self.sets["short"], is_short), (self.sets["long"], ~is_short)):
            if names:
                numbers = torch.tensor([OPERATORS.index(name) for name in names], device=length.device)
                apart = int(self.distinct and len(names) > 1)
                one = torch.randint(len(names), length.shape, device=length.device)
                other = (one + torch.randint(apart, len(names), length.shape, device=length.device)) % len(names)
                first, second = torch.where(rows, numbers[one], first), torch.where(rows, numbers[other], second)
        return first, second

    def apply(self, name: str, seq: Tensor, similar: Tensor | None) -> Tensor:
        """Return the named operator's views of seq [B, T]."""
        ratio = self.ratios[name]
        if name == "crop":
            return crop(seq, ratio, self.released)
        if name == "mask":
            return mask(seq, ratio)
        if name == "reorder":
            return reorder(seq, ratio, self.released)
        return (substitute if name == "substitute" else insert)(seq, ratio, similar)


def _slots(seq: Tensor) -> Tensor:
    return torch.arange(seq.shape[1], device=seq.device)


def _length(seq: Tensor) -> Tensor:
    """Items per row, [B, 1]."""
    return (seq > 0).sum(1, keepdim=True)


def _count(ratio: float, length: Tensor) -> Tensor:
    return (ratio * length.double()).long()


def _start(room: Tensor) -> Tensor:
    """A whole number from 0 to `room` per row, [B, 1]; 0 where there is no room."""
    return (torch.rand(room.shape, device=room.device) * (room + 1).clamp(min=0)).long()


def _choose(seq: Tensor, count: Tensor) -> Tensor:
    """Choose `count` [B, 1] of each row's items, or all where there are fewer, as [B, T] bool."""
    order = torch.rand(seq.shape, device=seq.device).masked_fill(seq == 0, 2).argsort(1)
    chosen = _slots(seq) < torch.minimum(count, _length(seq))
    return torch.zeros_like(chosen).scatter(1, order, chosen)
