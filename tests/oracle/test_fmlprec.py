"""FMLP-Rec written out slowly: loops over rows, slots and frequencies."""

import math

import pytest
import torch
from backbone_setting import DIM, MAX_LEN, example, feed_forward, gelu, layer_norm, randomised

from seqrec.backbones.fmlprec import FMLPRec


def kernel(spectrum, length):
    """Impulse response [L][D] of a half spectrum [L // 2 + 1, D, 2], by the inverse DFT with Hermitian symmetry."""
    taps = []
    for t in range(length):
        tap = torch.zeros(DIM, dtype=torch.double)
        for frequency in range(length):
            mirrored = frequency > length // 2
            real, imaginary = spectrum[length - frequency if mirrored else frequency].T
            own_mirror = frequency == 0 or 2 * frequency == length
            imaginary = 0 * imaginary if own_mirror else (-imaginary if mirrored else imaginary)
            angle = 2 * math.pi * frequency * t / length
            tap += (real * math.cos(angle) - imaginary * math.sin(angle)) / length
        taps.append(tap)
    return taps


@pytest.mark.parametrize("max_len", [MAX_LEN, MAX_LEN - 1])
@torch.no_grad()
def test_fmlprec(max_len):
    torch.manual_seed(0)
    options = {"layers": 2, "feedforward": 2, "embedding_dropout": 0.5, "dropout": 0.5}
    backbone = randomised(FMLPRec(dim=DIM, max_len=max_len, **options))
    x, mask = example(width=max_len - 2)
    states = backbone(x, mask)
    for row in range(len(x)):
        real = [x[row, slot] * float(mask[row, slot]) for slot in range(max_len - 2)]
        slots = [torch.zeros(DIM, dtype=torch.double)] * 2 + real
        slots = [layer_norm(s + backbone.position.weight[at], backbone.norm) for at, s in enumerate(slots)]
        for layer in backbone.layers:
            taps = kernel(layer.filter, max_len)
            filtered = [
                sum(taps[(now - then) % max_len] * slots[then] for then in range(max_len)) for now in range(max_len)
            ]
            slots = [layer_norm(s + f, layer.filter_norm) for s, f in zip(slots, filtered, strict=True)]
            slots = [layer_norm(s + feed_forward(s, layer, gelu), layer.feedforward_norm) for s in slots]
        torch.testing.assert_close(states[row, mask[row]], torch.stack(slots[2:])[mask[row]])
