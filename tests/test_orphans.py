"""Jobs of a sweep in worker processes end with the sweep."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SWEEP = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3,4", "trainer.max_epochs=1000")
SMALL = ("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "trainer.threads=1")


def alive() -> dict[int, int]:
    """Return the processes that run, with that which started each."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(path.parent.name)] = int(parent)
    return found


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no /proc to find processes in")
def test_workers_of_a_killed_sweep_end_and_write_no_more(tmp_path):
    pytest.importorskip("joblib")
    sweep = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *SWEEP, *SMALL, "trainer.patience=1000", f"output_dir={tmp_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    workers = set()
    try:
        until(lambda: len(list(tmp_path.rglob("last.pt"))) == 2)
        workers = {process for process, parent in alive().items() if parent == sweep.pid}
        sweep.kill()
        sweep.wait()
        until(lambda: not workers & alive().keys(), seconds=20)
        assert len(workers) >= 2
        assert len(list(tmp_path.rglob("config.yaml"))) == 2
    finally:
        sweep.kill()
        for worker in workers & alive().keys():
            os.kill(worker, signal.SIGKILL)
