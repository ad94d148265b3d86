"""Layouts against lists made by hand and by loops."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from seqrec.backbones.layout import all_cells, length_blocks, packed_steps
from seqrec.utils.groups import falling_groups

LAYOUTS = [all_cells, length_blocks, packed_steps]


def masks():
    generator = torch.Generator().manual_seed(0)
    cases = [torch.rand(rows, width, generator=generator) < 0.5 for rows in (1, 2, 7, 30) for width in (1, 3, 12)]
    for width in (4, 20):  # left-padded, as loaders give them
        length = torch.randint(0, width + 1, (25, 1), generator=generator)
        cases.append(torch.arange(width) >= width - length)
    return [*cases, torch.ones(4, 5, dtype=torch.bool), torch.tensor([[False, False], [False, True]])]


def real_cells(mask):
    """Flat positions of the real items of each row, oldest first."""
    rows, width = mask.shape
    return [[b * width + t for t in range(width) if mask[b, t]] for b in range(rows)]


def test_length_blocks_by_hand():
    mask = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], dtype=torch.bool)
    made = length_blocks(mask)
    # rows of length 4; 3 (the longest below .8 x 4, with a hole to close); 2 and 2; the empty row is left out
    assert made.blocks == ((1, 4), (1, 3), (2, 2))
    assert made.index.tolist() == [12, 13, 14, 15, 4, 6, 7, 2, 3, 17, 19]
    assert made.destination.tolist() == made.index.tolist()
    assert made.row.tolist() == [3, 3, 3, 3, 1, 1, 1, 0, 0, 4, 4]
    wide = length_blocks(mask, shrink=0.5)
    assert wide.blocks == ((2, 4), (2, 2))
    assert wide.index.tolist() == [12, 13, 14, 15, 4, 6, 7, 7, 2, 3, 17, 19]
    assert wide.destination.tolist() == [12, 13, 14, 15, 4, 6, 7, 20, 2, 3, 17, 19]


@pytest.mark.parametrize(
    "mask", [mask for mask in masks() if mask.any()], ids=lambda mask: f"{len(mask)}x{mask.shape[1]}"
)
@pytest.mark.parametrize("shrink", [0.3, 0.8, 1.0])
def test_length_blocks(mask, shrink):
    made = length_blocks(mask, shrink)
    nowhere = mask.numel()
    expected = real_cells(mask)
    index, destination = made.index.tolist(), made.destination.tolist()
    assert sorted(at for at in destination if at < nowhere) == sorted(at for row in expected for at in row)
    cell, met, lengths = 0, [], []
    for rows, width in made.blocks:
        for row in range(rows):
            own = index[cell : cell + width]
            goes = destination[cell : cell + width]
            number = own[0] // mask.shape[1]
            real = expected[number]
            assert own == real + [real[-1]] * (width - len(real))
            assert goes == real + [nowhere] * (width - len(real))
            assert len(real) == width or row > 0
            assert len(real) > min(shrink * width, width - 1)
            met.append(number)
            lengths.append(len(real))
            cell += width
    assert cell == len(index) == len(destination)
    assert sorted(met) == [row for row in range(len(mask)) if expected[row]]
    assert lengths == sorted(lengths, reverse=True)
    widths = [width for _, width in made.blocks]
    assert widths == sorted(set(widths), reverse=True)


def test_little_of_a_block_is_padding():
    generator = torch.Generator().manual_seed(1)
    length = torch.empty(256).geometric_(1 / 6, generator=generator).clamp(max=50).long()
    mask = torch.arange(50) >= 50 - length[:, None]
    real, padded = int(length.sum()), mask.numel()
    cells = len(length_blocks(mask).index)
    assert padded / real > 6
    assert real <= cells < 1.1 * real


def test_nothing_real_is_a_block_of_filling():
    made = length_blocks(torch.zeros(3, 4, dtype=torch.bool))
    assert made.destination.tolist() == [12] * 3
    assert made.blocks == ((3, 1),)


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{len(mask)}x{mask.shape[1]}")
def test_packed_steps(mask):
    made = packed_steps(mask)
    rows = sorted((row for row in real_cells(mask) if row), key=len, reverse=True)  # stable
    if not rows:
        assert len(made.index) == len(made.batch_sizes) == 0
        return
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    packed = pack_padded_sequence(padded, [len(row) for row in rows], batch_first=True)
    assert torch.equal(made.index, packed.data)
    assert torch.equal(made.destination, packed.data)
    assert torch.equal(made.batch_sizes, packed.batch_sizes)


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{len(mask)}x{mask.shape[1]}")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_and_scatter_are_a_round_trip(mask, layout):
    made = layout(mask)
    x = torch.randn(*mask.shape, 3, requires_grad=True)
    there = made.gather(x)
    assert there.shape == (len(made.index), 3)
    for cell, at in zip(there, made.index.tolist(), strict=True):
        assert torch.equal(cell, x[at // mask.shape[1], at % mask.shape[1]])
    back = made.scatter(there)
    assert torch.equal(back, x * mask[..., None])
    upstream = torch.randn_like(back)
    back.backward(upstream)
    assert torch.equal(x.grad, upstream * mask[..., None])
    assert torch.equal(made.gather(mask), mask.flatten()[made.index])


def test_all_cells_keeps_every_slot():
    mask = torch.tensor([[False, True, False], [True, True, True]])
    made = all_cells(mask)
    assert made.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert made.destination.tolist() == [6, 1, 6, 3, 4, 5]
    assert made.blocks == ((2, 3),)


@pytest.mark.parametrize("values", [[], [0, 0], [7], [9, 9, 5, 4, 4, 2, 1, 1, 0, 0], list(range(40, 0, -1))])
@pytest.mark.parametrize("shrink", [0.3, 0.65, 1.0])
def test_falling_groups_begin_where_numbers_get_too_small(values, shrink):
    expected = []
    for number, value in enumerate(values):
        if value and (not expected or value < shrink * values[expected[-1][0]]):
            expected.append([number, number])
        if value:
            expected[-1][1] = number + 1
    found = falling_groups(np.array(values, np.int64), lambda first: shrink * first)
    assert found == [tuple(group) for group in expected]
