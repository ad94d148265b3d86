"""Report how well the items that a run's method drops are the noise that is known by label:
`python scripts/noise_detection.py outputs/... [outputs/... ...]`, for autosam and asarrec.

Each run gives a table, and noise_detection.csv in its directory: AUC of the drop probability, share dropped, precision,
recall, and the share of clean items that is dropped; beside it chance and simple rules that drop as much.
"""

import argparse
import sys
from pathlib import Path

from seqrec.cli import guarded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    import torch

    from seqrec.build import load
    from seqrec.evaluation.noise_detection import known_noise, write
    from seqrec.utils.errors import UserError

    for folder in arguments.runs:
        experiment = load(folder, data_dir=arguments.data_dir)
        if experiment.split.noise is None:
            raise UserError(f"{folder}: the noise in '{experiment.dataset.name}' is not known")
        torch.manual_seed(experiment.config.seed)
        table = known_noise(
            experiment.method, experiment.split.train, experiment.split.noise, experiment.config.max_len
        )
        write(folder, table)
        columns = list(table["method"])
        table = {experiment.config.method.name: table.pop("method"), **table}
        print(f"\n{folder}\n| dropped by | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, values in table.items():
            print(f"| {name} | {' | '.join(f'{values[column]:.3f}' for column in columns)} |")


if __name__ == "__main__":
    sys.exit(guarded(main))
