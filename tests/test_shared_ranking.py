"""Ranking shared by several processes gives what one process gives, and fails in all of them together."""

import threading
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from seqrec.cli import explain
from seqrec.data.split import EvalSplit
from seqrec.evaluation import evaluator as evaluate
from seqrec.evaluation.evaluator import Evaluator
from seqrec.utils.errors import UserError

USERS, ITEMS = 70, 23
CPU = torch.device("cpu")


class Wire:
    """What the processes of a run say to one another, with threads in their place."""

    def __init__(self, size):
        self.said, self.barrier = [None] * size, threading.Barrier(size, timeout=10)

    def exchange(self, rank, value):
        self.said[rank] = value
        self.barrier.wait()
        heard = list(self.said)
        self.barrier.wait()
        return heard


class Process:
    """The part of Fabric that a shared ranking needs."""

    device = CPU

    def __init__(self, wire, rank):
        self.wire, self.global_rank, self.world_size = wire, rank, len(wire.said)

    def broadcast(self, value, src=0):
        return self.wire.exchange(self.global_rank, value)[src]

    def all_reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        return torch.stack(self.wire.exchange(self.global_rank, tensor)).sum(0).to(tensor.dtype)


class Scores(nn.Module):
    """Scores of each user; fails at a user of the set `poison`."""

    def __init__(self, table, poison=frozenset()):
        super().__init__()
        self.table, self.poison, self.asked = table, poison, []

    def score(self, batch):
        self.asked += batch.user.tolist()
        if self.poison & set(batch.user.tolist()):
            raise UserError("a poisoned score")
        return self.table[batch.user].clone()


@pytest.fixture
def questions(sequences_of):
    generator = np.random.default_rng(1)
    histories = sequences_of([generator.integers(1, ITEMS, generator.integers(1, 9)) for _ in range(USERS)])
    return EvalSplit(np.arange(USERS), generator.integers(1, ITEMS + 1, USERS), histories, histories)


def in_processes(size, work):
    """Return what work(process) returned or raised in each of `size` processes; none may hang."""
    wire, found = Wire(size), [None] * size

    def one(rank):
        try:
            found[rank] = work(Process(wire, rank))
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return found


@pytest.mark.parametrize("size", [2, 3, 7])  # 70 users are 5 chunks: two of 7 processes have nothing to do
def test_each_process_ranks_a_share_and_has_the_ranks_of_all(questions, monkeypatch, size):
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 1)
    table = torch.randn(USERS, ITEMS + 1, generator=torch.Generator().manual_seed(0)).mul(2).round()
    evaluator = Evaluator([1, 5], True, "expected", ITEMS, 6, ["HR", "Coverage"], np.ones(ITEMS + 1))
    alone = evaluator.ranks(Scores(table), questions, CPU, lists=True)
    asked = [[] for _ in range(size)]

    def work(process):
        method = Scores(table)
        asked[process.global_rank] = method.asked
        return evaluator.ranks(method, questions, CPU, lists=True, fabric=process)

    for ranks in in_processes(size, work):
        for name in ("user", "target", "better", "equal", "lists"):
            assert np.array_equal(getattr(ranks, name), getattr(alone, name))
        assert ranks.masked_targets == alone.masked_targets
        assert evaluator.metrics(ranks) == evaluator.metrics(alone)
    assert sorted(chain.from_iterable(asked)) == list(range(USERS))


@pytest.mark.parametrize("poison", [{0}, {69}, {0, 69}, set(range(USERS))])
def test_an_error_in_one_process_ends_all_and_is_told_once(questions, monkeypatch, poison):
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 1)
    evaluator = Evaluator([1, 5], True, "expected", ITEMS, 6)
    found = in_processes(
        3,
        lambda process: evaluator.ranks(Scores(torch.zeros(USERS, ITEMS + 1), poison), questions, CPU, fabric=process),
    )
    assert sorted(type(error).__name__ for error in found) == ["SystemExit", "SystemExit", "UserError"]
    assert all(error.code == 1 for error in found if isinstance(error, SystemExit))


def test_a_lost_process_is_told_in_a_line():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:22723")
    assert "another process of this run has ended" in explain(lost, [])
