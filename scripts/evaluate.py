"""Evaluate the best epoch of a finished run again: `python scripts/evaluate.py outputs/... [--part valid]`."""

import argparse
import sys
from pathlib import Path

from seqrec.cli import guarded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--part", choices=("valid", "test"), default="test")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    from seqrec.build import load

    experiment = load(arguments.run, data_dir=arguments.data_dir)
    evaluator = experiment.evaluator
    questions = getattr(experiment.split, arguments.part)
    ranks = evaluator.ranks(experiment.method, questions, experiment.fabric.device, lists=True)
    for name, value in evaluator.metrics(ranks).items():
        print(f"{name:<12} {value:.6f}")


if __name__ == "__main__":
    sys.exit(guarded(main))
