"""Add finished runs to results/*.csv: `python scripts/record.py outputs/...`, then `python scripts/write_results.py`.

Every complete run directory at or below the folders gives a row of runs.csv, with the hash of its configuration and the
command that ran, and a row of training.csv: what it logged in its best epoch. A robustness.json in it gives rows of
perturbed.csv, a noise_detection.csv rows of detection.csv. The comparisons that results/tables.yaml asks for (`against`) are
made where the runs of both sides are among the folders. Files of `scripts/benchmark.py --json` give rows of benchmarks.csv.
"""

import sys
from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Record the run directories and benchmark files that the arguments name."""
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders with run directories at or below them")
    parser.add_argument("--benchmarks", nargs="+", type=Path, default=[], metavar="FILE", help="timings to add")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the CSV files (results)")
    given = parser.parse_args(arguments)

    from filelock import FileLock

    from seqrec.report import records
    from seqrec.report.committed import Wanted

    pairs = Wanted(given.results / "tables.yaml").comparisons()
    runs, left_out = records.finished(given.folders)
    for entry in left_out:
        print(f"left out: {entry.path}: {entry.reason}", file=sys.stderr)
    run = ("configuration",)
    made = {
        "runs.csv": ([records.run_row(entry) for entry in runs], records.SAME_RUN),
        "training.csv": ([records.training_row(entry) for entry in runs if entry.trained], run),
        "gains.csv": (
            [row for pair in pairs for row in records.gain_rows(runs, *pair)],
            ("setting", "against", "noise_setting", "ratio", "metric"),
        ),
        "perturbed.csv": ([row for entry in runs for row in records.perturbed_rows(entry)], (*run, *records.CELL), run),
        "detection.csv": ([row for entry in runs for row in records.detection_rows(entry)], (*run, "dropped by"), run),
        "benchmarks.csv": (
            [row for path in given.benchmarks for row in records.benchmark_rows(path)],
            ("command", "system"),
        ),
    }
    for name, (rows, *keys) in made.items():
        if rows:
            path = given.results / name
            with FileLock(given.results / ".lock"):  # two at once would each lose the other's rows
                print(f"{path}: {records.merge(path, rows, *keys)} rows new or changed")
    for entry in runs:
        print(f'setting: "{entry.setting}", seed {entry.seed}, {entry.noise.get("name", "clean")}: {entry.path}')
