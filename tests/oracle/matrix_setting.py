"""Rows and soft matrices for the tests of AsarRec's matrices and views."""

import torch

from seqrec.methods.asarrec import views

K = 3  # candidates


def rows(lengths, width=None, seed=0, count=K):
    """Extended histories with distinct items 1, 2, ... per row and candidates 91, 92, ..."""
    width = max(lengths) if width is None else width
    seq = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        seq[row, width - length :] = torch.arange(1, length + 1)
    return views.extend(seq, torch.arange(91, 91 + count).expand(len(lengths), count))


def random_soft(*shape, generator):
    logits = torch.randn(*shape, generator=generator) * 3
    null = torch.randn(*shape[:-1], 1, generator=generator)
    return torch.cat([logits, null], -1).softmax(-1)[..., :-1]
