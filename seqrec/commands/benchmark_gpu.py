"""Measure one GPU within a time budget: speed, memory and parity with the CPU, as rows of a CSV. docs/scale.md explains them."""

import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seqrec.cli import Parser, above_zero, compose_config, conf_folder, file_to_write
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically
from seqrec.utils.instantiate import locate

COLUMNS = ("what", "data", "method", "device", "precision", "compiled", "targets_per_second", "ms", "peak_gb")
COLUMNS += ("parity", "seconds", "note")
COMPILED = 2  # times as long as others a measurement with torch.compile may take
ROWS = "rows.json"
LEAST_SECONDS = 10  # nothing is begun with less time left
CHILD = (
    "import sys; from seqrec.cli import guarded; from seqrec.commands.gpu_measures import main; sys.exit(guarded(main))"
)
COMMON = ("trainer.max_epochs=2", "trainer.eval_every=99", "trainer.progress=false", "eval.valid_users=2000")
DATA = {
    "beauty": ("dataset=beauty", "loss=cross_entropy"),
    "million": (
        *("dataset=synthetic", "dataset.users=20000", "dataset.items=1000000", "dataset.clusters=2000"),
        *("loss=sampled_softmax", "eval.valid_users=500"),
    ),
}
TINY = ("dataset=synthetic", "dataset.users=60", "dim=8", "max_len=10", "trainer.batch_size=32", "eval.valid_users=50")
SMALL = {
    "beauty": (*TINY, "dataset.items=120", "dataset.clusters=6", "loss=cross_entropy"),
    "million": (*TINY, "dataset.items=1000", "dataset.clusters=6", "loss=sampled_softmax", "loss.negatives=9"),
}
EPOCHS = {"cat": ("method.stage2_epochs=2",)}  # of stages that would last much longer


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the CSV anew after every measurement. Raises UserError where there is no GPU."""
    parser = Parser(__doc__)
    parser.add_argument("--csv", type=file_to_write, default=Path("benchmark_gpu.csv"), metavar="FILE")
    parser.add_argument("--minutes", type=above_zero, default=9, help="what no longer fits is left out (default 9)")
    parser.add_argument("--most", type=above_zero, default=60, help="seconds for one measurement (default 60)")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu", help="cpu: to try the command")
    parser.add_argument("--small", action="store_true", help="tiny data, to try the command")
    parser.add_argument("--only", metavar="TEXT", default="", help="measurements whose name contains TEXT")
    given = parser.parse_args(arguments)
    if given.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise UserError("there is no GPU here; --accelerator cpu --small tries the command without one")
    ends = time.monotonic() + 60 * given.minutes
    rows = []
    for wanted in plan(given.accelerator, given.small):
        if given.only in wanted["name"]:
            most = given.most * (COMPILED if wanted.get("compiled") else 1)
            rows += measured(wanted, min(most, ends - time.monotonic()))
            write_atomically(given.csv, as_csv(rows))
            print(wanted["name"], rows[-1].get("note") or f"{rows[-1]['seconds']:.0f} s", flush=True)


def plan(accelerator: str, small: bool) -> list[dict]:
    """Return the measurements in the order of their worth."""
    data = SMALL if small else DATA
    targets = 64 if small else 4096
    device = "cuda" if accelerator == "gpu" else "cpu"
    found = [
        {"what": "softmax", "data": name, "items": items, "targets": targets, "device": device}
        for name, items in (("beauty", 120 if small else 12_101), ("million", 1000 if small else 1_000_000))
    ]

    def training(name: str, method: str, precision: str = "32-true", compiled: str = "") -> dict:
        overrides = (*COMMON, *data[name], f"method={method}", *EPOCHS.get(method, ()))
        overrides = [*overrides, f"trainer.accelerator={accelerator}", f"trainer.precision={precision}"]
        named = {"what": "training", "data": name, "method": method, "precision": precision, "compiled": compiled}
        return {**named, "overrides": overrides}

    others = [method for method in trained_methods() if method != "plain"]
    compiled = "eager" if small else "inductor"
    found += [training(name, "plain") for name in data] + [training("beauty", "plain", "bf16-mixed")]
    found += [training("beauty", method) for method in others]
    found += [training("beauty", "plain", precision, compiled) for precision in ("32-true", "bf16-mixed")]
    found += [training("million", method) for method in others]
    names = ("what", "data", "method", "precision", "compiled")
    return [{**wanted, "name": " ".join(wanted[key] for key in names if wanted.get(key))} for wanted in found]


def trained_methods() -> list[str]:
    """Return the names of all methods that are trained."""
    names = sorted(path.stem for path in (conf_folder() / "method").glob("*.yaml"))
    return [name for name in names if locate(compose_config([f"method={name}"]).method["_target_"]).trained]


def measured(wanted: dict, seconds: float) -> list[dict]:
    """Return the rows of a measurement, made in a process of its own; one with a note where there is nothing to report."""
    named = {key: value for key, value in wanted.items() if key in COLUMNS}
    if seconds < LEAST_SECONDS:
        return [{**named, "note": "left out: no time left"}]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said, command = Path(folder, "said"), [sys.executable, "-c", CHILD, json.dumps(wanted), folder]
        try:
            with said.open("w") as stream:  # not a pipe, which compilers that outlive the process would keep open
                code = subprocess.run(
                    command, stdout=stream, stderr=subprocess.STDOUT, check=False, timeout=seconds
                ).returncode
        except subprocess.TimeoutExpired:
            return [{**named, "seconds": seconds, "note": f"stopped after {seconds:.0f} s"}]
        took = time.monotonic() - began
        if code:
            why = (said.read_text().strip().splitlines() or [f"exit code {code}"])[-1]
            return [{**named, "seconds": took, "note": why}]
        return [{**named, **row, "seconds": took} for row in json.loads(Path(folder, ROWS).read_text())]


def as_csv(rows: list[dict]) -> bytes:
    """Return the rows as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return stream.getvalue().encode()
