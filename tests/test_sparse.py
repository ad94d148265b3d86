"""Sparse gradients of the item table: the optimiser against a loop over the touched rows, what moves, what is refused."""

import math
from functools import partial

import pytest
import torch
from job_setting import SMALL, configure
from omegaconf import OmegaConf

from seqrec.build import build, make_trainer, refuse_impossible
from seqrec.losses import CrossEntropy, GeneralisedBinaryCrossEntropy, SampledSoftmax
from seqrec.training.lazy_adam import ITEMS_PER_NEGATIVE, SPARSE_FROM, LazyAdam, has_sparse_rows
from seqrec.utils.errors import UserError
from seqrec.utils.gradients import clip, gradient_norm

ROWS, DIM = 12, 3
SETTINGS = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}
SPARSE = (*SMALL, "loss=sampled_softmax", "loss.negatives=7", "trainer.batch_size=16", "trainer.progress=false")


def table_of(value):
    return torch.nn.Parameter(value.clone())


def sparse_step(optimizer, table, rows, values):
    """Step down a gradient with rows [n], some more than once, and values [n, D]."""
    table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape, check_invariants=True)
    optimizer.step()


def test_a_step_against_a_loop_over_the_touched_rows():
    torch.manual_seed(0)
    start = torch.randn(ROWS, DIM, dtype=torch.double)
    table, dense = table_of(start), table_of(torch.ones(2, dtype=torch.double))
    optimizer, rest = LazyAdam([table, dense], **SETTINGS), torch.optim.Adam([table_of(dense.detach())], **SETTINGS)
    expected, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    first, second = SETTINGS["betas"]
    for step in range(1, 6):
        rows, values = torch.randint(0, ROWS, (5,)), torch.randn(5, DIM, dtype=torch.double)
        dense.grad = torch.randn(2, dtype=torch.double)
        rest.param_groups[0]["params"][0].grad = dense.grad.clone()
        sparse_step(optimizer, table, rows, values)
        rest.step()
        for row in set(rows.tolist()):
            gradient = sum(value for at, value in zip(rows.tolist(), values, strict=True) if at == row)
            for d in range(DIM):
                mean[row, d] = first * mean[row, d] + (1 - first) * gradient[d]
                square[row, d] = second * square[row, d] + (1 - second) * gradient[d] ** 2
                size = math.sqrt(square[row, d] / (1 - second**step)) + SETTINGS["eps"]
                expected[row, d] -= SETTINGS["lr"] * mean[row, d] / (1 - first**step) / size
        torch.testing.assert_close(table.detach(), expected)
        assert torch.equal(dense, rest.param_groups[0]["params"][0])
    torch.testing.assert_close(optimizer.state[table]["exp_avg"], mean)


def test_it_is_adam_where_every_row_is_touched():
    torch.manual_seed(1)
    start = torch.randn(ROWS, DIM)
    one, other = table_of(start), table_of(start)
    lazy, adam = LazyAdam([one], **SETTINGS, fused=True), torch.optim.Adam([other], **SETTINGS, fused=True)
    for _ in range(5):
        rows = torch.cat([torch.randperm(ROWS), torch.tensor([3, 3])])
        values = torch.randn(len(rows), DIM)
        other.grad = torch.zeros_like(other).index_add(0, rows, values)
        sparse_step(lazy, one, rows, values)
        adam.step()
    torch.testing.assert_close(one, other)


def test_a_saved_optimiser_goes_on_with_the_same_bits(tmp_path):
    torch.manual_seed(2)
    table = table_of(torch.randn(ROWS, DIM))
    optimizer = LazyAdam([table], **SETTINGS, fused=True)
    steps = [(torch.randint(0, ROWS, (4,)), torch.randn(4, DIM)) for _ in range(6)]
    for number, step in enumerate(steps):
        if number == 3:
            other = table_of(table.detach())
            again = LazyAdam([other], **SETTINGS, fused=True)
            torch.save(optimizer.state_dict(), tmp_path / "state.pt")
            again.load_state_dict(torch.load(tmp_path / "state.pt"))
        sparse_step(optimizer, table, *step)
        if number >= 3:
            sparse_step(again, other, *step)
    assert torch.equal(table, other)


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_the_clipped_norm_is_that_of_the_dense_gradient(largest):
    torch.manual_seed(3)
    rows, values = torch.tensor([4, 1, 4, 4, 0]), torch.randn(5, DIM)
    gradient = torch.zeros(ROWS, DIM).index_add(0, rows, values)
    rest = torch.randn(7)
    dense, sparse = ([table_of(torch.zeros(ROWS, DIM)), table_of(torch.zeros(7))] for _ in range(2))
    dense[0].grad, dense[1].grad, sparse[1].grad = gradient.clone(), rest.clone(), rest.clone()
    sparse[0].grad = torch.sparse_coo_tensor(rows[None], values, (ROWS, DIM), check_invariants=True)
    torch.nn.utils.clip_grad_norm_(dense, largest)
    clip(sparse, largest)
    torch.testing.assert_close(sparse[0].grad.to_dense(), dense[0].grad)
    torch.testing.assert_close(sparse[1].grad, dense[1].grad)


def test_the_norm_of_a_gradient_that_comes_in_two_parts():
    table = table_of(torch.randn(ROWS, DIM))
    look_up = torch.nn.Embedding(ROWS, DIM, sparse=True)
    look_up.weight = table
    with gradient_norm([table]) as norm:
        (look_up(torch.tensor([1, 2, 1])).sum() + look_up(torch.tensor([2, 5])).sum()).backward()
    assert norm() == pytest.approx(math.sqrt((2**2 + 2**2 + 1) * DIM))


@pytest.mark.parametrize("method", ["plain", "cat", "irl4rec"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "bce", "gbce", "bpr"])
def test_a_step_moves_history_targets_and_negatives_and_no_other_row(method, loss, tmp_path):
    experiment = build(
        configure(*SPARSE, f"loss={loss}", "loss.negatives=2", f"method={method}", "trainer.sparse=true")
    )
    method = experiment.method.train()
    method.on_stage(method.stages - 1)
    trainer = make_trainer(experiment, tmp_path, lambda _: None)
    trainer.begin_stage()
    batch = next(experiment.loader.epoch(0))
    before = method.items.weight.detach().clone()
    method.optimize(batch, trainer.update)
    assert method.items.weight.grad.is_sparse
    touched = torch.cat([batch.seq.flatten(), batch.target.flatten(), batch.negative.flatten()]).unique()
    moved = (method.items.weight != before).any(1).nonzero()[:, 0]
    assert moved.tolist() == [row for row in touched.tolist() if row]
    assert len(moved) < 120
    state = trainer.optimizers["model"].state[method.items.weight]
    assert state["exp_avg"].any(1).nonzero()[:, 0].tolist() == moved.tolist()


SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("loss", {"name": "x", "_target_": "seqrec.losses.CrossEntropy", "chunk": 8}, "loss with negatives"),
        ("trainer.optimizer.weight_decay", 0.1, "weight_decay=0.1"),
        ("trainer.optimizer", SGD, "SGD"),
    ],
)
def test_what_cannot_have_sparse_gradients_is_refused(key, value, named):
    config = configure(*SPARSE, "trainer.sparse=true")
    OmegaConf.update(config, key, value, merge=False)
    with pytest.raises(UserError, match=f"trainer.sparse=true: .*{named}"):
        refuse_impossible(config, multirun=False)
    config.trainer.sparse = "auto"
    refuse_impossible(config, multirun=False)


def test_auto_takes_them_where_they_are_faster():
    def chosen(loss, items, wanted="auto", **settings):
        return has_sparse_rows(wanted, loss, partial(torch.optim.Adam, **settings), items)

    softmax = SampledSoftmax(512, 0.0, False)
    assert chosen(softmax, SPARSE_FROM)
    assert not chosen(softmax, SPARSE_FROM - 1)
    assert not chosen(softmax, SPARSE_FROM, weight_decay=0.1)
    assert not chosen(CrossEntropy(128), 10 * SPARSE_FROM)
    per_slot = GeneralisedBinaryCrossEntropy(256, 0.75)
    assert not chosen(per_slot, SPARSE_FROM)
    assert chosen(per_slot, 256 * ITEMS_PER_NEGATIVE)
    assert not chosen(softmax, SPARSE_FROM, wanted=False)
    assert chosen(softmax, 5, wanted=True)
