"""The measurements of `benchmark_gpu`, each in a process of its own: a peak of memory and a broken GPU stay there."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from seqrec.build import build, make_trainer, refuse_impossible
from seqrec.cli import compose_config
from seqrec.commands.benchmark_gpu import ROWS
from seqrec.config import apply_variant, check
from seqrec.losses.chunked_cross_entropy import chunked_cross_entropy
from seqrec.runs.manifest import peak_memory, processor
from seqrec.utils.files import write_json

DIM, REPEATS = 64, 5


def main() -> None:
    """Make the measurement of the first argument and write its rows to the folder of the second."""
    wanted, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    measure = training if wanted["what"] == "training" else softmax
    write_json(folder / ROWS, measure(wanted, folder))


def training(wanted: dict, folder: Path) -> list[dict]:
    """Train two epochs and rank the validation users with the same weights on the device and on the CPU.

    Targets per second are those of the last epoch; parity is the largest difference of a metric.
    """
    config = apply_variant(compose_config(wanted["overrides"]))
    check(config)
    refuse_impossible(config, multirun=False)
    experiment = build(config)
    device, method, questions = experiment.fabric.device, experiment.method, experiment.split.valid
    if wanted["compiled"]:
        method.backbone.compile(dynamic=True, backend=wanted["compiled"])
    history = make_trainer(experiment, folder, lambda _: None).fit().history
    there, peak = experiment.validate(), peak_memory(device)
    with torch.compiler.set_stance("force_eager") if wanted["compiled"] else nullcontext():
        ranks = experiment.evaluator.ranks(method.cpu(), questions, torch.device("cpu"))
    here = experiment.evaluator.metrics(ranks)
    return [
        {
            "device": processor(device),
            "targets_per_second": history[-1]["targets_per_second"],
            "peak_gb": peak / 1e9,
            "parity": max(abs(there[name] - here[name]) for name in here),
        }
    ]


def softmax(wanted: dict, _: Path) -> list[dict]:
    """Time the full softmax, forward and backward, against torch's; parity is the relative difference to the first loss."""
    device, rows, first = torch.device(wanted["device"]), [], None
    torch.manual_seed(0)
    hidden = torch.randn(wanted["targets"], DIM, device=device, requires_grad=True)
    table = torch.randn(wanted["items"] + 1, DIM, device=device).mul_(0.1).requires_grad_()
    target = torch.randint(1, wanted["items"] + 1, (wanted["targets"],), device=device)
    for name, loss in variants(hidden, target, table).items():
        row = {"method": name, "device": processor(device), "precision": "32-true"}
        try:
            times, value = timed(loss, (hidden, table), device)
        except RuntimeError as error:  # out of memory, in most cases
            rows.append({**row, "note": str(error).splitlines()[0]})
            continue
        first = value if first is None else first
        rate, parity = wanted["targets"] / median(times), abs(value - first) / first
        measured = {"ms": 1000 * median(times), "targets_per_second": rate, "peak_gb": peak_memory(device) / 1e9}
        rows.append({**row, **measured, "parity": parity})
    return rows


def variants(hidden: torch.Tensor, target: torch.Tensor, table: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return functions that compute the same loss; candidate 0 is left out of torch's by a view of the table."""
    found = {
        f"seqrec, chunk {chunk}": lambda chunk=chunk: chunked_cross_entropy(hidden, target, table, chunk)[0]
        for chunk in (128, 1024)
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):  # older versions of torch lack it
        for name, options in (("torch", None), ("torch, chunked", torch.nn.LinearCrossEntropyOptions())):
            found[name] = lambda options=options: F.linear_cross_entropy(hidden, table[1:], target - 1, options=options)
    return found


def timed(loss: Callable, leaves: tuple[torch.Tensor, ...], device: torch.device) -> tuple[list[float], float]:
    """Return the seconds of forward and backward passes after one that warms up, and the loss; the peak of memory is theirs."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(REPEATS + 1):
        for leaf in leaves:
            leaf.grad = None
        began = time.monotonic()
        value = loss()
        value.backward()
        read = float(value.detach())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - began)
    return times[1:], read
