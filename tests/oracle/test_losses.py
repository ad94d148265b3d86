"""The next-item losses against their equations, slot by slot and item by item, in value and gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqrec.data.negatives import NegativeSampler
from seqrec.losses import (
    BayesianPersonalisedRanking,
    BinaryCrossEntropy,
    CrossEntropy,
    GeneralisedBinaryCrossEntropy,
    SampledSoftmax,
)

SLOTS, DIM, ITEMS, NEGATIVES = 7, 5, 11, 3


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def softmax_loss(own, others):
    return -torch.log(torch.exp(own) / (torch.exp(own) + sum(torch.exp(other) for other in others)))


def bce(own, others):
    return -torch.log(sigmoid(own)) - sum(torch.log(1 - sigmoid(other)) for other in others) / len(others)


def gbce(calibration):
    def slot(own, others):
        alpha = len(others) / (ITEMS - 1)
        beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
        positive = torch.log(sigmoid(own) ** beta)
        return -(positive + sum(torch.log(1 - sigmoid(other)) for other in others)) / (len(others) + 1)

    return slot


def bpr(own, others):
    return -sum(torch.log(sigmoid(own - other)) for other in others) / len(others)


PER_SLOT = {
    "bce": (BinaryCrossEntropy(NEGATIVES), bce),
    "bpr": (BayesianPersonalisedRanking(NEGATIVES), bpr),
    "gbce-0": (GeneralisedBinaryCrossEntropy(NEGATIVES, 0.0), gbce(0.0)),
    "gbce-.75": (GeneralisedBinaryCrossEntropy(NEGATIVES, 0.75), gbce(0.75)),
    "gbce-1": (GeneralisedBinaryCrossEntropy(NEGATIVES, 1.0), gbce(1.0)),
}


class Case:
    """Random states, table, targets and negatives in double precision."""

    def __init__(self, shared: bool, perturbed: bool):
        generator = torch.Generator().manual_seed(4)

        def draw(*shape):
            return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_()

        self.hidden, self.table = draw(SLOTS, DIM), draw(ITEMS + 1, DIM)
        self.target = torch.randint(1, ITEMS + 1, (SLOTS,), generator=generator)
        # the first target is an accidental hit, and one negative comes twice
        if shared:
            self.negative = torch.tensor([int(self.target[0]), 3, 3, 9])
        else:
            self.negative = torch.randint(1, ITEMS + 1, (SLOTS, NEGATIVES), generator=generator)
        self.perturbed = {}
        if perturbed:
            shape = (*self.negative.shape, DIM)
            self.perturbed = {"positive": draw(SLOTS, DIM), "sampled": draw(*shape)}

    @property
    def inputs(self):
        return [self.hidden, self.table, *self.perturbed.values()]

    def own(self, slot):
        vector = self.perturbed["positive"][slot] if self.perturbed else self.table[self.target[slot]]
        return sum(self.hidden[slot] * vector)

    def other(self, slot, number):
        """Score of negative `number` at a slot."""
        at = number if self.negative.dim() == 1 else (slot, number)
        vector = self.perturbed["sampled"][at] if self.perturbed else self.table[self.negative[at]]
        return sum(self.hidden[slot] * vector)

    def compare(self, loss, expected):
        """Compare values per slot, their mean, and gradients under an uneven weighting of the slots."""
        arguments = (self.hidden, self.target, self.table, self.negative)
        values, expected = loss.per_slot(*arguments, **self.perturbed), torch.stack(expected)
        torch.testing.assert_close(values, expected)
        weight = torch.arange(1.0, SLOTS + 1, dtype=torch.double)
        for ours, theirs in zip(
            torch.autograd.grad((values * weight).sum(), self.inputs, allow_unused=True, retain_graph=True),
            torch.autograd.grad((expected * weight).sum(), self.inputs, allow_unused=True, retain_graph=True),
            strict=True,
        ):
            zero = torch.zeros(())
            torch.testing.assert_close(*(zero if one is None else one for one in (ours, theirs)))
        mean = expected.mean()
        wanted = torch.autograd.grad(mean, self.inputs, allow_unused=True)
        both, each = loss.with_slots(*arguments, **self.perturbed)
        with torch.no_grad():
            torch.testing.assert_close(loss.per_slot(*arguments, **self.perturbed), expected)
        assert not each.requires_grad
        torch.testing.assert_close(each, expected.detach())
        for value in (both, loss(*arguments, **self.perturbed)):
            torch.testing.assert_close(value, mean)
            ours = torch.autograd.grad(value, self.inputs, allow_unused=True)
            for pair in zip(ours, wanted, strict=True):
                torch.testing.assert_close(*(torch.zeros(()) if one is None else one for one in pair))


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("name", PER_SLOT)
def test_losses_with_negatives_per_slot(name, perturbed):
    loss, slot_loss = PER_SLOT[name]
    assert loss.negatives == NEGATIVES
    assert not loss.shared
    case = Case(shared=False, perturbed=perturbed)
    expected = [
        slot_loss(case.own(slot), [case.other(slot, number) for number in range(NEGATIVES)]) for slot in range(SLOTS)
    ]
    case.compare(loss, expected)


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("log_q", [False, True])
def test_sampled_softmax(log_q, perturbed):
    case = Case(shared=True, perturbed=perturbed)
    loss = SampledSoftmax(len(case.negative), power=0.5, log_q=log_q)
    assert loss.shared
    assert (loss.negatives, loss.power) == (4, 0.5)
    proposal = torch.rand(ITEMS + 1, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    proposal[0] = 0
    proposal /= proposal.sum()
    loss.setup(proposal.log())
    expected = []
    for slot in range(SLOTS):
        others = []
        for number, item in enumerate(case.negative.tolist()):
            if item == case.target[slot]:
                continue
            correction = math.log(len(case.negative) * proposal[item]) if log_q else 0.0
            others.append(case.other(slot, number) - correction)
        expected.append(softmax_loss(case.own(slot), others))
    case.compare(loss, expected)


def test_sampled_softmax_where_every_negative_is_the_target():
    case = Case(shared=True, perturbed=False)
    case.negative[:] = case.target[2]
    values = SampledSoftmax(4, 0.0, False).per_slot(case.hidden, case.target, case.table, case.negative)
    assert values[2] == 0
    values.sum().backward()
    assert torch.isfinite(case.table.grad).all()
    assert not case.hidden.grad[2].any()


@pytest.mark.parametrize("power", [0.0, 0.75])
def test_the_log_q_correction_makes_the_partition_function_unbiased(power, sequences_of):
    counts = [1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4]
    train = sequences_of([[item + 1] * count for item, count in enumerate(counts)])
    case = Case(shared=True, perturbed=False)
    sampler = NegativeSampler(train, ITEMS, 4, shared=True, power=power, seed=3)
    loss = SampledSoftmax(4, power, log_q=True)
    loss.setup(torch.from_numpy(sampler.log_proposal))
    draws = 4000
    values = np.zeros((draws, SLOTS))
    with torch.no_grad():
        for number in range(draws):
            negative = torch.from_numpy(sampler.draw(np.arange(1), np.ones((1, 1), bool), 0, number))
            values[number] = loss.per_slot(case.hidden, case.target, case.table, negative).exp()
        full = F.cross_entropy((case.hidden @ case.table.T)[:, 1:], case.target - 1, reduction="none").exp()
    error = values.std(0) / math.sqrt(draws)
    assert (np.abs(values.mean(0) - full.numpy()) < 4 * error).all()


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, SLOTS, 100])
def test_cross_entropy(chunk, positive):
    case = Case(shared=True, perturbed=False)
    if positive:
        case.perturbed = {"positive": torch.randn(SLOTS, DIM, dtype=torch.double, requires_grad=True)}
    expected = []
    for slot in range(SLOTS):
        scores = [
            sum(case.hidden[slot] * case.table[item]) for item in range(1, ITEMS + 1) if item != case.target[slot]
        ]
        expected.append(softmax_loss(case.own(slot), scores))
    loss = CrossEntropy(chunk)
    assert loss.negatives == 0
    case.compare(loss, expected)


def test_gbce_limits():
    case = Case(shared=False, perturbed=False)
    arguments = (case.hidden, case.target, case.table, case.negative[:, :1])
    plain = BinaryCrossEntropy(1).per_slot(*arguments)
    torch.testing.assert_close(GeneralisedBinaryCrossEntropy(1, 0.0).per_slot(*arguments), plain / 2)
    everything = torch.arange(1, ITEMS).expand(SLOTS, -1)  # sampling all other items needs no calibration
    arguments = (case.hidden, torch.full((SLOTS,), ITEMS), case.table, everything)
    values = [GeneralisedBinaryCrossEntropy(ITEMS - 1, t).per_slot(*arguments) for t in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


@pytest.mark.parametrize("loss", [loss for loss, _ in PER_SLOT.values()], ids=list(PER_SLOT))
def test_large_scores_stay_finite(loss):
    case = Case(shared=False, perturbed=False)
    value = loss(case.hidden * 1e4, case.target, case.table, case.negative)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(case.hidden.grad).all()


@pytest.mark.parametrize("loss", [CrossEntropy(4), SampledSoftmax(3, 0.0, False)])
def test_padding_gets_no_probability(loss):
    torch.manual_seed(9)
    hidden, target = torch.randn(9, DIM), torch.randint(1, ITEMS + 1, (9,))
    table = torch.randn(ITEMS + 1, DIM, requires_grad=True)
    negative = torch.tensor([1, 2, 3])
    values = []
    for padding in (0.0, 50.0):
        with torch.no_grad():
            table[0] = padding
        values.append((loss(hidden, target, table, negative), loss.per_slot(hidden, target, table, negative)))
    assert torch.equal(values[0][0], values[1][0])
    assert torch.equal(values[0][1], values[1][1])
    gradient = torch.autograd.grad(values[1][0], table)[0]
    assert not gradient[0].any()
    assert gradient[1:].any(1).sum() >= 3


def test_perturbed_embeddings_are_taken_under_autocast():
    torch.manual_seed(0)
    hidden, table, positive = torch.randn(SLOTS, DIM), torch.randn(ITEMS + 1, DIM), torch.randn(SLOTS, DIM)
    target = torch.arange(1, SLOTS + 1)
    exact = CrossEntropy(3).per_slot(hidden, target, table, positive=positive)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = CrossEntropy(3).per_slot(hidden, target, table, positive=positive)
        mean = CrossEntropy(3)(hidden, target, table, positive=positive.bfloat16())
    assert torch.allclose(coarse.float(), exact, atol=0.1)
    assert torch.allclose(mean, exact.mean(), atol=0.1)
