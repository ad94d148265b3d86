"""Add finished runs to results/*.csv: `python scripts/record.py outputs/...`, then `python scripts/write_results.py`.

Every complete run directory at or below the folders gives a row of runs.csv, found again by its command (a short one
that gives its configuration) and seed, and one of training.csv, what it logged in its best epoch; a robustness.json in it
gives rows of perturbed.csv, a noise_detection.csv rows of detection.csv. The comparisons that results/tables.yaml asks for
(`against`) are made where the runs of both sides are among the folders. Files of `scripts/benchmark.py --json` give rows of
benchmarks.csv.
"""

import argparse
import functools
import sys
from pathlib import Path

from seqrec.cli import guarded

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders with run directories at or below them")
    parser.add_argument("--benchmarks", nargs="+", type=Path, default=[], metavar="FILE", help="timings to add")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the CSV files")
    arguments = parser.parse_args()

    import yaml
    from filelock import FileLock
    from hydra import compose, initialize_config_dir

    from seqrec.evaluation.perturbation import SETTING
    from seqrec.evidence.rows import (
        benchmark_rows,
        detection_rows,
        finished,
        gain_rows,
        merge,
        perturbed_rows,
        run_row,
        training_row,
    )
    from seqrec.evidence.tables import comparisons

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        runs = finished(arguments.folders, functools.cache(lambda *overrides: compose("config", list(overrides))))
    pairs = comparisons(yaml.safe_load((arguments.results / "tables.yaml").read_text()))
    place = ("command", "seed")
    made = {
        "runs.csv": (map(run_row, runs), place),
        "training.csv": (map(training_row, (run for run in runs if run.run.trained)), place),
        "gains.csv": ((row for pair in pairs for row in gain_rows(runs, *pair)), ("command", "against", "metric")),
        "perturbed.csv": ((row for run in runs for row in perturbed_rows(run)), (*place, *SETTING), place),
        "detection.csv": ((row for run in runs for row in detection_rows(run)), (*place, "dropped by"), place),
        "benchmarks.csv": (
            (row for path in arguments.benchmarks for row in benchmark_rows(path)),
            ("command", "system"),
        ),
    }
    for name, (rows, *keys) in made.items():
        if rows := list(rows):
            path = arguments.results / name
            with FileLock(arguments.results / ".lock"):  # two at once would each lose the other's rows
                print(f"{path}: {merge(path, rows, *keys)} rows new or changed")


if __name__ == "__main__":
    sys.exit(guarded(main))
