"""Time an experiment on synthetic catalogues of several sizes, each in a process of its own."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from seqrec.cli import above_zero
from seqrec.commands.processes import run_command

ITEMS_PER_CLUSTER = 500  # of the synthetic data
CHILD = (
    "import sys; from seqrec.cli import guarded; from seqrec.commands.benchmark import main; sys.exit(guarded(main))"
)


def sizes(text: str) -> list[int]:
    """Return the numbers of items that an argument like 10000,100000 gives; raises argparse's error for anything else."""
    found = [above_zero(part) for part in text.split(",")]
    if min(found) < 2 * ITEMS_PER_CLUSTER:
        raise argparse.ArgumentTypeError(f"'{text}': a catalogue needs {2 * ITEMS_PER_CLUSTER} items")
    return found


def time_catalogues(items: list[int], overrides: list[str], epochs: int) -> dict:
    """Return the result of `benchmark`, with a system per number of items and stage.

    Each is timed in a process of its own, since a process has one peak of memory. Raises UserError where one fails.
    """
    results = []
    for count in items:
        size = [f"dataset.items={count}", f"dataset.clusters={count // ITEMS_PER_CLUSTER}"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "timing.json")
            arguments = [*size, *overrides, f"--epochs={epochs}", f"--json={file}"]
            run_command([sys.executable, "-c", CHILD, *arguments], f"--catalogue {count}")
            results.append(json.loads(file.read_text()))
        for system in results[-1]["systems"]:  # one per stage
            system["name"] = system["name"].replace("seqrec", f"{count} items")
    starts = [result["start_to_first_step"] for result in results]
    systems = [system for result in results for system in result["systems"]]
    return {**results[0], "systems": systems, "start_to_first_step": max(starts)}
