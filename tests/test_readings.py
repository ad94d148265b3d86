"""What steps log is read from the device together, and no checkpoint is written before the losses up to it are checked."""

import math

import pytest
import torch
from job_setting import configure

from seqrec.build import build, make_trainer
from seqrec.training.readings import Diverged, Readings

SMALL = ("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1", "max_len=10")
READS = ("item", "tolist", "cpu", "__float__", "__bool__")


def trainer_of(folder, *overrides, deferred=True):
    config = configure(*SMALL, "trainer.progress=false", "trainer.max_epochs=1", *overrides)
    trainer = make_trainer(build(config), folder, lambda _: None)
    trainer.readings = Readings(deferred)
    return trainer


def lose(trainer, monkeypatch, step):
    """Make the loss of a step (from 1) NaN, and the weights with it; returns the steps that were made."""
    made, losses = [], trainer.method.losses

    def broken(batch):
        made.append(len(made) + 1)
        logs = losses(batch)
        return {**logs, "loss": logs["loss"] * math.nan} if len(made) == step else logs

    monkeypatch.setattr(trainer.method, "losses", broken)
    return made


@pytest.mark.parametrize("method", ["plain", "cl4srec"])
def test_an_epoch_reads_every_hundred_steps_and_at_its_end(tmp_path, monkeypatch, method):
    trainer = trainer_of(tmp_path, f"method={method}", "trainer.batch_size=1")
    trainer.begin_stage()
    trainer.started = trainer.saved = math.inf
    reads = []
    for name in READS:
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, o=original, n=name: reads.append(n) or o(self, *a))
    trainer._train_epoch()
    assert len(trainer.loader) == 150
    assert reads == ["tolist"] * 2


def test_the_history_is_the_same_however_often_it_is_read(tmp_path, monkeypatch):
    seen, entries = [], []
    for deferred, minutes in ((False, 10), (True, 10), (True, 0)):
        over = ("method=cl4srec", "trainer.batch_size=32", f"trainer.checkpoint_minutes={minutes}")
        trainer = trainer_of(tmp_path / str(minutes) / str(deferred), *over, deferred=deferred)
        trainer.checkpoints.folder.mkdir(parents=True)
        monkeypatch.setattr(trainer, "step", lambda batch, step=trainer.step: seen.append(step(batch)) or seen[-1])
        entries.append({key: value for key, value in trainer.fit().history[-1].items() if "second" not in key})
    assert entries[0] == entries[1] == entries[2]
    logs = seen[: len(trainer.loader)]
    for name in logs[0]:
        assert entries[0][f"train/{name}"] == sum(values[name].item() for values in logs) / len(logs)


def test_a_lost_run_writes_no_checkpoint_after_the_loss_is_lost(tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path, "trainer.batch_size=32", "trainer.checkpoint_minutes=0")
    made = lose(trainer, monkeypatch, step=3)
    with pytest.raises(Diverged, match=r"nan in epoch 1, step 3"):
        trainer.fit()
    assert made == [1, 2, 3]
    saved = trainer.checkpoints.load("last.pt")
    assert saved["state"]["step"] == 2
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


@pytest.mark.parametrize("deferred", [False, True])
def test_a_lost_epoch_ends_before_it_is_validated_or_saved(tmp_path, monkeypatch, deferred):
    trainer = trainer_of(tmp_path, "trainer.batch_size=32", deferred=deferred)
    made = lose(trainer, monkeypatch, step=2)
    trainer.validate = None
    with pytest.raises(Diverged, match=r"nan in epoch 1, step 2"):
        trainer.fit()
    assert len(made) == (len(trainer.loader) if deferred else 2)
    assert not list(tmp_path.iterdir())
    finite = all(torch.isfinite(value).all() for value in trainer.method.state_dict().values())
    assert finite != deferred  # on the CPU the check comes before the weights are touched
