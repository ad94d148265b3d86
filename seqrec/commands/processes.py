"""Time one process against two, each with one thread, in whole runs that take turns."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from seqrec.utils.errors import UserError

ROUNDS = 3
TRAIN = Path(__file__).parents[2] / "train.py"  # of a checkout
COMMON = (
    "trainer.accelerator=cpu",
    "trainer.strategy=auto",
    "trainer.threads=1",
    "trainer.progress=false",
    "logger=none",
)
NAMES = {1: "one", 2: "two"}


def time_processes(overrides: list[str], epochs: int) -> dict:
    """Return targets per second of each timed epoch with one process and with two, and the ratio of the medians, two over one.

    The two exchange gradients by gloo. The first epoch of each run warms up. Raises UserError where a run fails.
    """
    rates: dict[str, list[int]] = {name: [] for name in NAMES.values()}
    for _ in range(ROUNDS):
        for count, name in NAMES.items():
            rates[name] += rates_of_run(overrides, epochs, count)
    return {**rates, "ratio": median(rates["two"]) / median(rates["one"])}


def rates_of_run(overrides: list[str], epochs: int, count: int) -> list[int]:
    """Return targets per second, those of all processes together, in each epoch of a run but the first."""
    length = (f"trainer.max_epochs={epochs + 1}", f"trainer.eval_every={epochs + 2}", f"trainer.devices={count}")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, TRAIN, *COMMON, *overrides, *length, f"hydra.run.dir={run}"]
        run_command(command, f"--processes, trainer.devices={count}", OMP_NUM_THREADS="1")
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [entry["targets_per_second"] for entry in history[1:]]


def run_command(command: list, name: str, **environment: str) -> None:
    """Run a command without its output, in a changed environment. Raises UserError, which begins with `name`, where it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        error = max((n for n, line in enumerate(lines) if line.startswith("error: ")), default=-1)
        raise UserError(f"{name}: " + "\n".join(lines[error:]).removeprefix("error: "))


def report(result: dict) -> str:
    """Return the medians and their ratio as lines."""
    one, two = (f"{median(result[name]):,.0f} targets/s" for name in NAMES.values())
    return f"one process: {one}\ntwo processes: {two}\ntwo / one: {result['ratio']:.2f}"
