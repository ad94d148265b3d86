"""What dry_run says of memory and time, against what a run takes."""

import json
import time
from pathlib import Path

import pytest
import torch
from job_setting import SHORT, SMALL, configure

from seqrec.build import build, make_trainer
from seqrec.commands import train
from seqrec.training import estimate


def begun(*overrides):
    experiment = build(configure(*SHORT, *overrides))
    trainer = make_trainer(experiment, Path(), lambda _: None)
    trainer.begin_stage()
    experiment.method.on_epoch(0)
    return experiment, trainer


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["method=autosam"],  # two groups, SGD for one of them
        ["trainer.optimizer._target_=torch.optim.AdamW", "+trainer.optimizer.amsgrad=true"],
    ],
)
def test_the_memory_of_parameters_and_optimisers_is_the_real_one(overrides):
    experiment, trainer = begun(*overrides)
    found = estimate.memory(trainer, experiment.evaluator, experiment.dataset.nbytes)
    for batch in experiment.loader.epoch(0):
        trainer.step(batch)

    def size(tensors):
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, torch.Tensor))

    kept = [value for opt in trainer.optimizers.values() for state in opt.state.values() for value in state.values()]
    assert found.optimizer == size(kept)
    assert found.parameters == size(experiment.method.parameters())
    assert found.gradients == size(parameter.grad for parameter in experiment.method.parameters())
    assert found.total == sum(vars(found).values())
    assert found.data > 4 * len(experiment.dataset.items)


def test_a_run_that_does_not_fit_is_told_and_not_tried(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(estimate, "available_memory", lambda device: 1000)
    monkeypatch.setattr(estimate, "epoch_seconds", None)
    caplog.set_level("INFO", logger="seqrec")
    train.job(configure(*SHORT, "dry_run=true"), tmp_path)
    assert "will not fit" in caplog.text
    assert "loss=sampled_softmax" in caplog.text


@pytest.mark.parametrize("method", ["popularity", "plain"])
def test_a_long_validation_is_told(monkeypatch, tmp_path, caplog, method):
    monkeypatch.setattr(estimate, "MANY_USERS", 10)
    monkeypatch.setattr(estimate, "user_seconds", lambda *_: 1e6)
    caplog.set_level("INFO", logger="seqrec")
    train.job(
        configure(*(SMALL[:3] if method == "popularity" else SHORT), f"method={method}", "dry_run=true"), tmp_path
    )
    assert "per validation (150 users)" in caplog.text
    assert ("eval.valid_users=10" in caplog.text) == (method == "plain")


@pytest.mark.parametrize("change", ["method=markov method.history_decay=auto", "method=counts", "fusion=counts"])
def test_what_validation_decides_is_not_needed(tmp_path, caplog, change):
    caplog.set_level("INFO", logger="seqrec")
    small = SHORT if change.startswith("fusion") else SMALL[:3]
    train.job(configure(*small, *change.split(), "dry_run=true"), tmp_path)
    assert "per validation (" in caplog.text


@pytest.mark.parametrize(("method", "stage", "epoch"), [("plain", 0, 0), ("asarrec", 0, 10), ("cat", 1, 0)])
def test_the_epochs_in_which_all_of_a_method_takes_part_are_timed(monkeypatch, tmp_path, caplog, method, stage, epoch):
    timed = []
    monkeypatch.setattr(estimate, "epoch_seconds", lambda trainer, at: timed.append((trainer.state.stage, at)) or 1.0)
    caplog.set_level("INFO", logger="seqrec")
    train.job(configure(*SHORT, f"method={method}", "dry_run=true"), tmp_path)
    assert timed == list(dict.fromkeys([(0, 0), (stage, epoch)]))
    assert caplog.text.count("s per epoch") == len(timed)


@pytest.mark.slow
def test_the_time_is_within_a_factor_of_two(tmp_path):
    small = ("dim=32", "trainer.max_epochs=3", "trainer.progress=false", "trainer.threads=1")
    experiment = build(configure(*small))
    trainer = make_trainer(experiment, Path(), lambda _: None)
    trainer.begin_stage()
    for _ in range(3):  # other work on the machine may disturb
        expected = estimate.epoch_seconds(trainer, 0)
        each = estimate.user_seconds(
            experiment.evaluator, experiment.method, experiment.split.valid, torch.device("cpu")
        )
        folder = tmp_path / str(time.monotonic())
        train.job(configure(*small), folder)
        last = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])
        ratios = expected / last["train_seconds"], each * len(experiment.split.valid.user) / last["valid_seconds"]
        if all(0.5 < ratio < 2 for ratio in ratios):
            return
    raise AssertionError(ratios)
