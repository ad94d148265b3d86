"""Evaluate the best epoch of a finished run again."""

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Print the metrics of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="validation or test set")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_args(arguments)

    from seqrec.build import load

    experiment = load(given.run, data_dir=given.data_dir)
    evaluator = experiment.evaluator
    rows, device = getattr(experiment.split, given.part), experiment.fabric.device
    ranks = evaluator.ranks(experiment.scorer, rows, device, lists=True)
    for name, value in evaluator.metrics(ranks).items():
        print(f"{name:<12} {value:.6f}")
