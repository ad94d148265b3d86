"""The cells of a padded batch that hold items, and the order in which a backbone processes them.

Shapes: the loader pads, so a batch, embeddings and hidden states are [B, T] or [B, T, D]. On short histories nine tenths of
these are padding. Inside a backbone, and only there, tensors are flat: `Backbone.forward` gathers the N cells, `run` maps
[N, D] to [N, D], so that projections, norms and dropout work on (nearly) no padding, and the result is scattered to
[B, T, D], 0 at padding. A loss gets only the n supervised slots, `hidden[supervised]`, [n, D].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from seqrec.utils.groups import falling_groups


@dataclass(frozen=True)
class CellLayout:
    """The N cells of a [B, T] batch, in the order in which a backbone processes them."""

    shape: tuple[int, int]  # (B, T)
    index: Tensor  # [N] flat position b * T + t of the item in each cell
    destination: Tensor  # [N] where the result goes: `index`, or B * T for a cell that only fills up a block
    blocks: tuple[tuple[int, int], ...] = ()  # (rows, width), one after the other: rows side by side, oldest item first
    batch_sizes: Tensor | None = None  # [T] rows that are still running at each step, for packed sequences
    key_bias: Tensor | None = None  # [N] what attention adds to the logits of each cell as a key; None: nothing
    newest: bool = False  # only the state of the last slot, T - 1, is used; others may be invalid

    @property
    def row(self) -> Tensor:
        """Batch row of each cell, [N]."""
        return self.index // self.shape[1]

    def gather(self, padded: Tensor) -> Tensor:
        """Return the cells [N, ...] of a padded tensor [B, T, ...]."""
        return padded.flatten(0, 1)[self.index]

    def scatter(self, cells: Tensor) -> Tensor:
        """Return the padded tensor [B, T, D] of cells [N, D]; zeros at padding."""
        rows, width = self.shape
        flat = cells.new_zeros(rows * width + 1, cells.shape[1]).index_copy(0, self.destination, cells)
        return flat[:-1].view(rows, width, -1)


def all_cells(mask: Tensor) -> CellLayout:
    """Lay out every slot of mask [B, T], padding and holes included."""
    rows, width = mask.shape
    index = torch.arange(rows * width, device=mask.device)
    return CellLayout((rows, width), index, torch.where(mask.flatten(), index, rows * width), ((rows, width),))


def one_block(mask: Tensor) -> CellLayout:
    """Lay out every row of mask [B, T] left-aligned, filled up with copies of its last item; there must be no holes.

    Nothing depends on the values of the mask but indices, so that a model can be exported for any batch.
    """
    rows, width = mask.shape
    length, step = mask.sum(1, keepdim=True), torch.arange(width, device=mask.device)
    slot = (step + width - length).clamp(max=width - 1)
    index = slot + torch.arange(rows, device=mask.device)[:, None] * width
    destination = torch.where(step < length, index, rows * width)
    return CellLayout((rows, width), index.flatten(), destination.flatten(), ((rows, width),))


def length_blocks(mask: Tensor, shrink: float = 0.8) -> CellLayout:
    """Group the rows of mask [B, T] by their number of real items, so that blocks hold little padding.

    Holes are closed: within a block a row's items are left-aligned, and the rest of the row is
    filled with copies of its last item, to which no earlier item attends under a causal mask. A new block begins where
    rows have at most `shrink` times the current width. On an accelerator there is one block: a launch costs more than
    padding.
    """
    if torch.compiler.is_exporting():
        return one_block(mask)
    rows, width = mask.shape
    length = mask.sum(1)
    order = length.argsort(descending=True, stable=True)
    if mask.device.type == "cpu":
        lengths = length[order].numpy()
        cut = falling_groups(lengths, lambda widest: min(int(shrink * widest) + 1, widest))
        blocks = tuple((stop - start, int(lengths[start])) for start, stop in cut) or ((rows, 1),)  # no items
    else:
        blocks = ((rows, width),)
    kept = order[: sum(members for members, _ in blocks)]
    block_width = torch.tensor([width for _, width in blocks], device=mask.device)
    block_rows = torch.tensor([members for members, _ in blocks], device=mask.device)
    row_width = block_width.repeat_interleave(block_rows)
    row = kept.repeat_interleave(row_width)
    step = torch.arange(len(row), device=mask.device) - (row_width.cumsum(0) - row_width).repeat_interleave(row_width)
    last = (length[row] - 1).clamp(min=0)
    real = mask.flatten().nonzero().squeeze(1)
    oldest = (length.cumsum(0) - length).clamp(max=max(len(real) - 1, 0))
    index = real[oldest[row] + torch.minimum(step, last)] if len(real) else torch.zeros_like(row)
    destination = torch.where(step < length[row], index, rows * width)
    return CellLayout((rows, width), index, destination, blocks)


def packed_steps(mask: Tensor) -> CellLayout:
    """Order the real cells of mask [B, T] step by step over rows of decreasing length, the order of packed sequences.

    In an export it is the padded layout of `one_block`, without `batch_sizes`.
    """
    if torch.compiler.is_exporting():
        return one_block(mask)
    rows, width = mask.shape
    lengths = mask.sum(1)
    step = (mask.cumsum(1) - 1)[mask]
    rank = torch.empty_like(lengths)
    rank[lengths.argsort(descending=True, stable=True)] = torch.arange(rows, device=mask.device)
    cells = mask.flatten().nonzero().squeeze(1)
    order = (step * rows + rank[cells // width]).argsort()
    return CellLayout((rows, width), cells[order], cells[order], batch_sizes=torch.bincount(step).cpu())
