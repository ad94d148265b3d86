"""CAT in a run: two stages, resume, a stage 1 from elsewhere, wrong values, and whether it is alive."""

import json

import pytest
import torch
from job_setting import configure

from seqrec.commands import train
from seqrec.training.trainer import Trainer
from seqrec.utils.errors import UserError

SMALL = (
    *("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1", "loss=bce"),
    *("trainer.batch_size=64", "trainer.max_epochs=2", "trainer.progress=false"),
)


def job(folder, *overrides):
    train.job(configure(*SMALL, *overrides), folder)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    history = [{key: value for key, value in entry.items() if "second" not in key} for entry in history]
    return history, json.loads((folder / "metrics.json").read_text())


def test_two_stages_in_one_command_and_exact_resume(tmp_path, monkeypatch):
    cat = ("method=cat", "method.stage2_epochs=3", "method.weights=shuffled")
    history, metrics = job(tmp_path / "whole", *cat)
    plain, _ = job(tmp_path / "plain", "method=plain")
    assert history[:2] == plain
    assert len(history) == 5
    assert metrics["best_epoch"] > 2  # chosen among the epochs of its own stage
    assert "train/loss_adv1" not in history[1]
    assert "train/loss_adv1" in history[2]

    update, calls = Trainer.update, []

    def fail_once(self, *arguments):
        calls.append(1)
        if len(calls) == 11:  # within the second epoch of stage 2: 3 steps an epoch
            raise InterruptedError
        update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", fail_once)
    with pytest.raises(InterruptedError):
        job(tmp_path / "ended", *cat, "trainer.checkpoint_minutes=0")
    assert job(tmp_path / "ended", *cat, "trainer.checkpoint_minutes=0") == (history, metrics)
    assert len(calls) == 16  # nothing was done twice but the step that failed

    monkeypatch.setattr(Trainer, "update", update)
    taken, _ = job(tmp_path / "taken", *cat, f"method.stage1={tmp_path / 'plain'}")
    assert len(taken) == 3
    assert taken[0]["train/loss_clean"] < plain[0]["train/loss"]
    saved = torch.load(tmp_path / "taken" / "best.pt", weights_only=True)["model"]
    one_command = torch.load(tmp_path / "whole" / "best.pt", weights_only=True)["model"]
    for name in ("item_radius", "user_radius"):
        assert saved[name] == one_command[name] > 0


def test_a_wrong_stage1_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"method\.stage1=.*nowhere: no finished run"):
        job(tmp_path / "a", "method=cat", f"method.stage1={tmp_path / 'nowhere'}")
    job(tmp_path / "plain", "method=plain", "dim=4")
    done = (tmp_path / "plain" / "DONE").rename(tmp_path / "plain" / "nearly")
    with pytest.raises(UserError, match=r"method\.stage1=.*plain: no finished run"):
        job(tmp_path / "a", "method=cat", "dim=4", f"method.stage1={tmp_path / 'plain'}", "data_dir=/nowhere")
    done.rename(tmp_path / "plain" / "DONE")
    stage1 = ("method=cat", f"method.stage1={tmp_path / 'plain'}")
    for key in (
        *("backbone.layers=2", "backbone.norm_first=false", "max_len=9", "dataset.seed=7", "split=temporal"),
        "noise=insert",
    ):
        with pytest.raises(UserError, match=rf"method\.stage1=.*another .*{key.partition('=')[0]}"):
            job(tmp_path / "c", *stage1, "dim=4", key)
    with pytest.raises(UserError, match=r"method\.stage1=.*another dim"):
        job(tmp_path / "c", *stage1)
    job(tmp_path / "cl4srec", "method=cl4srec", "dim=4")
    with pytest.raises(UserError, match=r"method\.stage1=.*method=cl4srec"):
        job(tmp_path / "c", "method=cat", "dim=4", f"method.stage1={tmp_path / 'cl4srec'}")
    (tmp_path / "plain" / "best.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"method\.stage1=.*best.pt is damaged"):
        job(tmp_path / "d", "method=cat", "dim=4", f"method.stage1={tmp_path / 'plain'}")


# --- alive


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_alive(tmp_path, noise):
    small = ("dataset.users=600", "dataset.items=300", "dataset.clusters=12", f"dataset.noise_share={noise}", "dim=16")
    long = ("method.stage2_epochs=10", "trainer.max_epochs=20", "trainer.plateau=null")
    history, _ = job(tmp_path / "cat", "method=cat", *small, *long)
    stage2 = history[20:]
    for entry in stage2:
        assert entry["train/loss_adv1"] > entry["train/loss_clean"]
        assert entry["train/loss_adv2"] > entry["train/loss_clean"]
        assert entry["train/weight_newest"] > 1.1
    assert stage2[-1]["train/loss_adv2"] < stage2[0]["train/loss_adv2"]
    assert max(entry["valid/NDCG@10"] for entry in stage2) >= 0.9 * max(
        entry["valid/NDCG@10"] for entry in history[:20]
    )
