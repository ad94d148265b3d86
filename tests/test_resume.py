"""The same command after SIGKILL goes on and ends with the same bits as a run that was left alone."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
TRAIN, KILLED = ROOT / "train.py", ROOT / "tests" / "killed_run.py"
TINY = (
    "dataset.users=150",
    "dataset.items=120",
    "dataset.clusters=6",
    "dim=8",
    "trainer.batch_size=32",
    "trainer.max_epochs=4",
    "trainer.threads=1",
)
CASES = {
    "checkpoints within epochs": ("backbone.layers=1", "trainer.schedule=cosine", "trainer.checkpoint_minutes=0"),
    "sparse gradients": (
        "loss=sampled_softmax",
        "loss.negatives=9",
        "trainer.sparse=true",
        "trainer.checkpoint_minutes=0",
    ),
    "two processes": (
        *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"),
        *("backbone.dropout=.5", "trainer.checkpoint_minutes=0"),
    ),
    "recurrent, with negatives": ("backbone=gru4rec", "loss=bce", "trainer.clip=1.0"),
}


def start(folder: Path, case: tuple[str, ...], script: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, script, *arguments, *TINY, *case, f"hydra.run.dir={folder}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def results(folder: Path) -> tuple[dict, list[dict], dict]:
    """Return metrics, history without its timings, and ranks."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    history = [{key: value for key, value in entry.items() if "second" not in key} for entry in history]
    with np.load(folder / "ranks_test.npz") as ranks:
        arrays = {name: ranks[name].tolist() for name in ranks}
    return json.loads((folder / "metrics.json").read_text()), history, arrays


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_killed_three_times_ends_with_the_same_bits(tmp_path, case):
    whole = start(tmp_path / "whole", case, TRAIN)
    assert whole.returncode == 0, whole.stderr
    for moment in (("step", "7"), ("evaluate", "1"), ("checkpoint", "2")):
        killed = start(tmp_path / "killed", case, KILLED, *moment)
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
        assert not (tmp_path / "killed" / "DONE").exists()
    last = start(tmp_path / "killed", case, TRAIN)
    assert last.returncode == 0, last.stderr
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
def test_times_count_what_came_before_the_interruption(tmp_path):
    case = ("trainer.checkpoint_minutes=0",)
    killed = start(tmp_path / "run", case, KILLED, "step", "7")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = tmp_path / "run" / "last.pt"
    saved = torch.load(last, weights_only=True)
    assert saved["state"]["epoch_seconds"] > 0
    saved["state"]["epoch_seconds"] += 1000
    saved["state"]["seconds"] += 1000
    torch.save(saved, last)
    ended = start(tmp_path / "run", case, TRAIN)
    assert ended.returncode == 0, ended.stderr
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    times = {entry["epoch"]: entry["train_seconds"] for entry in history}
    assert [epoch for epoch, seconds in times.items() if seconds > 1000] == [saved["state"]["epoch"] + 1]
    whole = start(tmp_path / "whole", case, TRAIN)
    assert whole.returncode == 0, whole.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["wall_seconds"] > 1000
    slow, usual = (
        json.loads((tmp_path / name / "history.jsonl").read_text().splitlines()[saved["state"]["epoch"]])
        for name in ("run", "whole")
    )
    # the same targets in the time that it took altogether
    targets = usual["targets_per_second"] * usual["train_seconds"]
    assert slow["targets_per_second"] == pytest.approx(targets / slow["train_seconds"], abs=1)
