"""Evaluate the best epoch of a finished run again, also in another way: `evaluate.py DIR eval.cutoffs=[1,50] eval.ties=pessimistic`."""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Print the metrics of a run."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "overrides", nargs="*", metavar="eval.KEY=VALUE", help="other cutoffs, metrics, mask_history or ties"
    )
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="validation or test set")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_intermixed_args(arguments)

    from seqrec.build import load, make_evaluator
    from seqrec.config import with_evaluation

    experiment = load(given.run, data_dir=given.data_dir)
    config = with_evaluation(experiment.config, given.overrides)
    evaluator = make_evaluator(config, experiment.dataset, experiment.split)
    rows, device = experiment.questions(given.part), experiment.fabric.device
    ranks = evaluator.ranks(experiment.scorer, rows, device, lists=True)
    for name, value in evaluator.metrics(ranks).items():
        print(f"{name:<12} {value:.6f}")
