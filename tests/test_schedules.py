"""Schedules as lists of factors."""

import math

import pytest
import torch

from seqrec.training.schedules import SCHEDULES
from seqrec.utils.errors import UserError


def factors(name, warmup, total, steps):
    factor = SCHEDULES[name](warmup, total)
    return [factor(step) for step in range(steps)]


def test_constant():
    assert factors("constant", 0, 5, 7) == [1] * 7
    assert factors("constant", 3, 5, 7) == [0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert factors("constant", 9, 5, 2) == [0.1, 0.2]  # a rise may outlast the training


def test_linear():
    assert factors("linear", 0, 4, 6) == [1, 0.75, 0.5, 0.25, 0, 0]
    assert factors("linear", 2, 6, 8) == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25, 0, 0])


def test_cosine():
    half = math.sqrt(0.5)
    assert factors("cosine", 0, 4, 6) == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0])
    assert factors("cosine", 2, 6, 8) == pytest.approx(
        [1 / 3, 2 / 3, 1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0],
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_rises_to_one_and_stays_within_it(name):
    values = factors(name, 10, 100, 130)
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == max(values) == 1
    assert min(values) >= 0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert (values[100] == 0) == (name != "constant")
    assert factors(name, 2.5, 100, 30)[3:4] == pytest.approx(values[10:11], abs=0.05)  # half an epoch may warm up


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [20, 21])
def test_a_warmup_that_leaves_no_step_to_fall_in_is_an_error(name, warmup):
    with pytest.raises(UserError, match=r"trainer.warmup_epochs takes up the whole training"):
        SCHEDULES[name](warmup, 20)
    SCHEDULES[name](19, 20)


def test_the_first_step_of_an_optimiser_has_the_first_factor():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, SCHEDULES["linear"](1, 3))
    moved = []
    for _ in range(4):
        before = float(weight.detach())
        weight.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
        moved.append(before - float(weight.detach()))
    assert moved == pytest.approx([0.25, 0.5, 0.25, 0])
