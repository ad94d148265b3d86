"""The floor of scripts/floor.py: as little work as SASRec can do, and not less."""

import job_setting
import numpy as np
import pytest
import torch
import torch.nn.functional as F

SMALL = ["dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1", "max_len=10"]
SMALL += ["trainer.batch_size=32", "trainer.progress=false"]


def configure(*overrides):
    return job_setting.configure(*SMALL, *overrides)


def sequences(count, longest, num_items, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(1, num_items + 1, generator.integers(1, longest + 1)) for _ in range(count)]


@pytest.fixture
def floor(script):
    torch.manual_seed(0)
    rows = sequences(40, 12, 30)
    histories = sequences(300, 12, 30, seed=1)
    target = np.random.default_rng(2).integers(1, 31, 300)
    shape = {"dim": 8, "layers": 2, "heads": 2, "feedforward": 4, "dropout": 0.0, "attention_dropout": 0.0}
    made = script("floor").Floor(rows, histories, target, 30, 8, 16, "cross_entropy", 1e-3, **shape)
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    made.rows, made.histories, made.target = rows, histories, target
    return made


def test_the_floor_trains_on_every_target_once(floor):
    trained = []
    for batch in floor.batches:
        assert batch.item.shape[1] == 8
        items = batch.item.flatten()[batch.cell]
        assert int((batch.item > 0).sum()) == len(batch.cell)
        trained += zip(
            items.tolist(), batch.position.flatten()[batch.cell].tolist(), batch.target.tolist(), strict=True
        )
    wanted = []
    for row in floor.rows:
        row = row[-9:].tolist()
        wanted += zip(row[:-1], range(len(row) - 1), row[1:], strict=True)
    assert sorted(trained) == sorted(wanted)
    assert sum(len(batch.item) for batch in floor.batches) < len([row for row in floor.rows if len(row) > 1])


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_packing_does_not_change_the_floors_loss_or_gradient(floor, loss):
    floor.loss = loss
    network = floor.network
    batch = floor.batches[0]
    torch.manual_seed(5)
    packed = floor.loss_of(batch)
    packed.backward()
    gradient = network.items.weight.grad.clone()
    network.zero_grad()
    torch.manual_seed(5)
    negative = torch.randint(1, 31, batch.target.shape)
    owner = (batch.position.flatten()[batch.cell] == 0).cumsum(0)  # each sequence begins at position 0
    alone = []
    for sequence in range(1, int(owner.max()) + 1):
        at = owner == sequence
        items = batch.item.flatten()[batch.cell[at]][None]
        hidden = network(items, torch.arange(items.shape[1])[None], None)[0]
        if loss == "cross_entropy":
            alone.append(F.cross_entropy(hidden @ network.items.weight.T, batch.target[at], reduction="none"))
        else:
            scores = [(hidden * network.items(i[at])).sum(1) for i in (batch.target, negative)]
            alone.append(-F.logsigmoid(scores[0]) - F.logsigmoid(-scores[1]))
    slow = torch.cat(alone).mean()
    slow.backward()
    assert torch.allclose(packed, slow, rtol=1e-5)
    assert torch.allclose(gradient, network.items.weight.grad, atol=1e-6)


def test_the_floors_ranks_are_those_of_a_slow_count(floor):
    counts = torch.cat(floor.better()).tolist()
    order = np.argsort([min(len(items), 8) for items in floor.histories], kind="stable")
    table = floor.network.items.weight
    for row, count in zip(order, counts, strict=True):
        history = torch.from_numpy(floor.histories[row])
        shown = history[-8:][None]
        with torch.no_grad():
            score = (floor.network(shown, torch.arange(shown.shape[1])[None], None)[0, -1] @ table.T).tolist()
        own = score[floor.target[row]]
        better = [i for i in range(1, 31) if score[i] > own + 1e-5 and i not in history.tolist()]
        surely = [i for i in range(1, 31) if score[i] > own - 1e-5 and i not in history.tolist()]
        assert len(better) <= count <= len(surely)


def test_the_floor_learns(floor):
    first = floor.loss_of(floor.batches[0]).item()
    assert all(floor.epoch() > 0 for _ in range(5))
    assert floor.loss_of(floor.batches[0]).item() < first
