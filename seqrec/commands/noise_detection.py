"""Report how well the items that a run's method drops are the noise that is known by label:
`python scripts/noise_detection.py outputs/... [outputs/... ...]`, for autosam and asarrec.

Each run gives a table, and noise_detection.csv in its directory: AUC of the drop probability, fraction dropped, precision,
recall, and the fraction of clean items that is dropped; beside it chance and simple rules that drop as much.
"""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Print and write the table of each run that the arguments name."""
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_args(arguments)

    import pandas as pd
    import torch

    from seqrec.build import load
    from seqrec.evaluation.noise_detection import known_noise
    from seqrec.report.tables import markdown, write_csv
    from seqrec.utils.errors import UserError

    for folder in given.runs:
        experiment = load(folder, complete=True, data_dir=given.data_dir)
        config, split = experiment.config, experiment.split
        if split.noise is None:
            raise UserError(f"{folder}: the noise in '{experiment.dataset.name}' is not known")
        torch.manual_seed(config.seed)
        try:
            found = pd.DataFrame(known_noise(experiment.method, split.train, split.noise, config.max_len)).T
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        write_csv(folder / "noise_detection.csv", found.reset_index(names="dropped by"))
        shown = found.rename(index={"method": config.method.name}).map("{:.3f}".format)
        print(f"\n{folder}\n{markdown(shown.reset_index(names='dropped by'), figures=True)}", end="")
