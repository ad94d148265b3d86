"""In-batch and mixed negatives against their equations, slot by slot and candidate by candidate."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqrec.batch import Batch
from seqrec.losses.in_batch import InBatchSoftmax, MixedSoftmax

DIM, ITEMS = 5, 9
USER = torch.tensor([3, 3, 3, 7, 7, 8])
TARGET = torch.tensor([1, 4, 2, 4, 6, 1])  # 4 and 1 are targets of two users
NEGATIVE = torch.tensor([5, 4, 5])
COUNTS = torch.tensor([0, 4, 1, 2, 9, 3, 1, 7, 2, 1])


def make(mixed):
    loss = MixedSoftmax(len(NEGATIVE), power=0.5) if mixed else InBatchSoftmax()
    loss.count(COUNTS)
    if mixed:
        weight = COUNTS.double().sqrt()
        loss.setup((weight / weight.sum()).log())
    return loss


@pytest.mark.parametrize("mixed", [False, True])
def test_each_slot(mixed):
    generator = torch.Generator().manual_seed(1)
    hidden, table = (
        torch.randn(n, DIM, dtype=torch.double, generator=generator, requires_grad=True)
        for n in (len(TARGET), ITEMS + 1)
    )
    total, root = sum(COUNTS.tolist()), sum(math.sqrt(count) for count in COUNTS.tolist())
    expected = []
    for slot, target in enumerate(TARGET.tolist()):
        others = [at for at in range(len(TARGET)) if USER[at] != USER[slot]]
        candidates = [int(TARGET[at]) for at in others] + (NEGATIVE.tolist() if mixed else [])
        terms = [torch.exp(hidden[slot] @ table[target])]
        for item in candidates:
            if item != target:
                times = len(others) * COUNTS[item].item() / total
                times += len(NEGATIVE) * math.sqrt(COUNTS[item]) / root if mixed else 0.0
                terms.append(torch.exp(hidden[slot] @ table[item]) / times)
        expected.append(-torch.log(terms[0] / sum(terms)))
    expected = torch.stack(expected)
    found = make(mixed).per_slot(hidden, TARGET, table, NEGATIVE if mixed else None, user=USER)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weight = torch.arange(1.0, len(TARGET) + 1, dtype=torch.double)
    ours, theirs = (torch.autograd.grad((x * weight).sum(), (hidden, table)) for x in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_candidates_are_summed_in_single_precision_under_autocast():
    torch.manual_seed(4)
    hidden, table, target = (
        torch.randn(300, 8).div(4).bfloat16(),
        torch.randn(31, 8).bfloat16().float(),
        torch.arange(300) % 30 + 1,
    )
    loss = InBatchSoftmax()
    loss.count(torch.arange(31))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.per_slot(hidden, target, table, user=torch.arange(300))
    expected = loss.per_slot(hidden.float(), target, table, user=torch.arange(300))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


def test_uniform_negatives_are_no_more_than_there_are_items():
    loss = MixedSoftmax(100 * ITEMS, power=0)
    loss.setup(torch.tensor([-torch.inf, *[-math.log(ITEMS)] * ITEMS]))
    torch.testing.assert_close(loss.draws[1:], torch.ones(ITEMS))  # each of them once


@pytest.mark.parametrize("mixed", [False, True])
def test_the_partition_function_is_unbiased(mixed):
    generator, draws, slots = np.random.default_rng(2), 2000, 8
    torch.manual_seed(3)
    hidden, table = torch.randn(1, DIM, dtype=torch.double), torch.randn(ITEMS + 1, DIM, dtype=torch.double)
    loss, share, root = make(mixed), COUNTS.numpy() / COUNTS.sum().item(), COUNTS.sqrt().numpy()
    user = torch.arange(slots)
    values = np.zeros(draws)
    for number in range(draws):
        target = torch.from_numpy(generator.choice(ITEMS + 1, slots, p=share))
        target[0] = 5
        negative = torch.from_numpy(generator.choice(ITEMS + 1, 3, p=root / root.sum())) if mixed else None
        values[number] = loss.per_slot(hidden.expand(slots, -1), target, table, negative, user=user)[0].exp()
    full = F.cross_entropy((hidden @ table.T)[:, 1:], torch.tensor([4])).exp().item()
    assert abs(values.mean() - full) < 4 * values.std() / math.sqrt(draws)


def test_a_batch_of_one_user_has_no_negatives():
    torch.manual_seed(4)
    hidden, table = torch.randn(3, DIM, requires_grad=True), torch.randn(ITEMS + 1, DIM, requires_grad=True)
    loss = make(False)(hidden, TARGET[:3], table, user=USER[:3])
    loss.backward()
    assert loss == 0
    assert not hidden.grad.any()


def test_the_users_of_the_slots():
    seq = torch.tensor([[0, 1], [2, 3]])
    batch = Batch(torch.tensor([5, 9]), seq, seq, seq)
    assert make(False).context(batch, seq > 0)["user"].tolist() == [5, 9, 9]
