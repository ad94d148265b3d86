"""Which cells of a padded batch are real, and in what order a backbone runs over them.

On short histories nine tenths of a padded batch are padding. A backbone therefore runs over a flat [N, D] tensor of cells:
everything that works on single items (projections, feed-forward, norms, dropout) meets next to no padding, and only what mixes
items looks at the rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """N cells of a [B, T] batch in the order in which a backbone wants them."""

    shape: tuple[int, int]  # (B, T)
    index: Tensor  # [N] flat position b * T + t of the item in each cell
    destination: Tensor  # [N] where the result goes: `index`, or B * T for a cell that only fills a block up
    blocks: tuple[tuple[int, int], ...] = ()  # (rows, width), one after the other: rows side by side, oldest item first
    batch_sizes: Tensor | None = None  # [T] rows that are still running at each step, for packed sequences
    newest: bool = False  # nobody reads the state of a slot but the last, T - 1: those of others need not be right

    @property
    def row(self) -> Tensor:
        """Batch row of each cell, [N]."""
        return self.index // self.shape[1]

    def gather(self, padded: Tensor) -> Tensor:
        """Return the cells [N, ...] of a padded tensor [B, T, ...]."""
        return padded.flatten(0, 1)[self.index]

    def scatter(self, cells: Tensor) -> Tensor:
        """Return the padded tensor [B, T, D] of cells [N, D]; zeros where nothing is real."""
        rows, width = self.shape
        flat = cells.new_zeros(rows * width + 1, cells.shape[1]).index_copy(0, self.destination, cells)
        return flat[:-1].view(rows, width, -1)


def all_cells(mask: Tensor) -> Layout:
    """Layout of every slot of mask [B, T], padding and holes included."""
    rows, width = mask.shape
    index = torch.arange(rows * width, device=mask.device)
    return Layout((rows, width), index, torch.where(mask.flatten(), index, rows * width), ((rows, width),))


def length_blocks(mask: Tensor, shrink: float = 0.8) -> Layout:
    """Group the rows of mask [B, T] by their number of real items, so that blocks hold little padding.

    Holes are closed: within a block a row's real items stand at its left in their order, and the rest of the row is
    filled with copies of its last item, which no earlier item can see under a causal mask. A new block begins where
    rows get shorter than `shrink` times the current width. An accelerator gets one block: there a launch costs more
    than padding.
    """
    rows, width = mask.shape
    length = mask.sum(1)
    order = length.argsort(descending=True, stable=True)
    if mask.device.type == "cpu":
        blocks = _blocks(length[order].numpy(), shrink) or ((rows, 1),)  # nothing real: filling alone
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
    return Layout((rows, width), index, destination, blocks)


def _blocks(length: np.ndarray, shrink: float) -> tuple[tuple[int, int], ...]:
    """Cut falling row lengths into blocks (rows, width); rows without items are left out."""
    blocks, row = [], 0
    while row < len(length) and length[row] > 0:
        width = int(length[row])
        shorter = int(np.searchsorted(-length, -min(shrink * width, width - 1), side="left"))
        blocks.append((shorter - row, width))
        row = shorter
    return tuple(blocks)


def packed_steps(mask: Tensor) -> Layout:
    """Order the real cells of mask [B, T] step by step over rows of falling length, as recurrent networks want them."""
    rows, width = mask.shape
    lengths = mask.sum(1)
    step = (mask.cumsum(1) - 1)[mask]
    rank = torch.empty_like(lengths)
    rank[lengths.argsort(descending=True, stable=True)] = torch.arange(rows, device=mask.device)
    cells = mask.flatten().nonzero().squeeze(1)
    order = (step * rows + rank[cells // width]).argsort()
    return Layout((rows, width), cells[order], cells[order], batch_sizes=torch.bincount(step).cpu())
