"""Recommend items to users by their own ids: `python scripts/recommend.py outputs/... USER [USER ...] [--top 10]`."""

import argparse
import sys
from pathlib import Path

from seqrec.cli import above_zero, guarded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("users", nargs="+", help="user ids as they stand in the raw data")
    parser.add_argument("--top", type=above_zero, default=10, help="items per user")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    from seqrec.build import load
    from seqrec.evaluation.recommend import recommend

    experiment = load(arguments.run, data_dir=arguments.data_dir)
    lists = recommend(experiment.method, experiment.dataset, arguments.users, arguments.top, experiment.fabric.device)
    for user, items in zip(arguments.users, lists, strict=True):
        print(user, *items, sep="\t")


if __name__ == "__main__":
    sys.exit(guarded(main))
