"""Why fusion works: `python scripts/fusion_study.py RUN ...` compares model, counts and both on finished runs with fusion."""

from pathlib import Path

import numpy as np

from seqrec.cli import Parser

SCORERS = ("model", "counts", "fused")


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of docs/fusion.md for each run directory."""
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="complete run directory of fusion=counts")
    parser.add_argument("--data-dir", help="folder of the raw data, if it has moved")
    given = parser.parse_args(arguments)

    from seqrec.report.tables import markdown

    for folder in given.runs:
        for title, table in study(folder, given.data_dir).items():
            shown = table.map(lambda value: f"{value:.4f}" if isinstance(value, float) else value)
            print(f"\n{title}\n\n{markdown(shown, figures=True)}")


def study(folder: Path, data_dir: str | None) -> dict:
    """Return tables of a run on its test set: overlap of hits, NDCG@10 by history length and by target popularity.

    "counts" are the fused score's count and item features without the model, under the same weights.
    """
    import pandas as pd

    from seqrec.build import load
    from seqrec.evaluation.metrics import per_user
    from seqrec.fusion.fused import Fused
    from seqrec.utils.errors import UserError

    experiment = load(folder, data_dir=data_dir)
    fused, split, device = experiment.scorer, experiment.split.test, experiment.fabric.device
    if not isinstance(fused, Fused) or len(fused.models) != 1:
        raise UserError(f"{folder}: not a run of one trained model with fusion=counts")
    scorers = dict(zip(SCORERS, (experiment.method, fused.without_models(), fused), strict=True))
    ranks = {name: experiment.evaluator.ranks(scorer, split, device) for name, scorer in scorers.items()}
    hit, gain = (
        pd.DataFrame({name: per_user(metric, found.better, found.equal) for name, found in ranks.items()})
        for metric in ("HR@10", "NDCG@10")
    )
    both = (hit > 0.5).astype(int)
    overlap = pd.crosstab(both["model"], both["counts"], normalize=True).rename(
        index={0: "model misses", 1: "model hits"}, columns={0: "counts miss", 1: "counts hit"}
    )
    overlap["fused HR@10"] = both.groupby("model")["fused"].mean().to_numpy()
    popularity = experiment.split.train.item_counts(experiment.dataset.num_items)[split.target]
    return {
        "Fractions of the test users whose target is in the top 10": overlap.reset_index(names=""),
        "NDCG@10 by length of the history": _sliced(gain, split.inputs.lengths, "items"),
        "NDCG@10 by training count of the target": _sliced(gain, popularity, "count"),
    }


def _sliced(gain, value: np.ndarray, name: str):
    """Return the mean of each column of `gain` within quartiles of `value`, with the number of users."""
    import pandas as pd

    slices = pd.qcut(value, 4, duplicates="drop")
    table = gain.groupby(slices, observed=True).mean()
    table.insert(0, "users", pd.Series(value).groupby(slices, observed=True).size())
    return table.reset_index(names=name)
