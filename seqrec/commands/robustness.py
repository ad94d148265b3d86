"""Perturb the inputs of finished runs at test time: `python scripts/robustness.py outputs/... --noise insert,delete --ratio 0,.1,.2`.

Each run gives a Markdown table, and robustness.json and robustness.csv in its directory. docs/robustness.md defines the
measures. Without --noise and --positions: insert, replace, delete and swap.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from seqrec.cli import Parser, above_zero
from seqrec.utils.files import write_json

SETTING = ("attack", "position", "k", "ratio", "draws")  # what tells the cells of a grid apart


def words(text: str) -> list[str]:
    """Return the words of an argument, separated by commas."""
    return [word.strip() for word in text.split(",")]


def numbers(text: str) -> list[float]:
    """Return the numbers of an argument, separated by commas."""
    return [float(word) for word in words(text)]


def counts(text: str) -> list[int]:
    """Return the counts of an argument, separated by commas."""
    return [above_zero(word) for word in words(text)]


def main(arguments: list[str] | None = None) -> None:
    """Print and write the grid of each run that the arguments name."""
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    noise = parser.add_argument_group("noise")
    noise.add_argument("--noise", type=words, help="operators; insert+delete is a mix")
    noise.add_argument("--ratio", type=numbers, default=[0, 0.1, 0.2, 0.3], help="fractions of the input (0,.1,.2,.3)")
    noise.add_argument("--source", default="uniform", help="of added items: uniform, popularity, cooccurring, donor")
    noise.add_argument("--power", type=float, default=1.0, help="of the training counts, for popularity (1)")
    noise.add_argument("--where", default="anywhere", help="anywhere, begin, middle, end, last")
    noise.add_argument("--last", type=above_zero, default=1, help="items that --where last means (1)")
    noise.add_argument("--window", type=above_zero, help="items of a shuffled window")
    attack = parser.add_argument_group("replacement at given positions")
    attack.add_argument(
        "--positions", type=words, default=[], help="--positions=first,middle,last,random,-1,-10 (with =)"
    )
    attack.add_argument("--k", type=counts, default=[1], help="numbers of replaced items (1)")
    attack.add_argument(
        "--worst", type=above_zero, default=0, metavar="N", help="also the worst of N random candidates"
    )
    attack.add_argument("--gradient", action="store_true", help="also the items of steepest loss")
    parser.add_argument("--draws", type=above_zero, default=5, help="random draws that are averaged (5)")
    parser.add_argument("--seed", type=int, default=0, help="draw d has this seed + d (0)")
    parser.add_argument("--cutoff", type=above_zero, default=10, help="K of all measures (10)")
    parser.add_argument("--part", choices=("valid", "test"), default="test")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_args(arguments)
    if not given.positions and (given.worst or given.gradient or given.k != [1]):
        parser.error("--k, --worst and --gradient replace items at --positions: give some")

    from omegaconf import OmegaConf

    from seqrec.build import load
    from seqrec.evaluation.attacks import check, check_differentiable
    from seqrec.evaluation.perturbation import PerturbedEvaluator, attack_cells, noise_cells
    from seqrec.noise.foreign_items import ForeignItems
    from seqrec.noise.registry import NoiseSettings
    from seqrec.utils.instantiate import make
    from seqrec.utils.keyed_random import user_keys

    operators = given.noise or ([] if given.positions else ["insert", "replace", "delete", "swap"])
    where = {name: getattr(given, name) for name in ("where", "last", "window")}
    settings = [  # all at once: an error in the last one is raised before a run is loaded
        NoiseSettings(operator.split("+"), ratio, **where)
        for operator, ratio in itertools.product(operators, given.ratio)
    ]
    check(given.positions)
    for folder in given.runs:
        experiment = load(folder, complete=True, data_dir=given.data_dir)
        questions = experiment.questions(given.part)
        if given.gradient:
            check_differentiable(experiment.method)
        # the training set before any training noise, so that every run gets the same perturbations
        train = make(OmegaConf.to_container(experiment.config.split, resolve=True))(experiment.dataset).train
        num_items, known = experiment.dataset.num_items, user_keys(experiment.dataset.user_ids)
        source = ForeignItems(train, known, num_items, given.source, given.power)
        evenly = ForeignItems(train, known, num_items, "uniform", 0.0)

        print(f"\n{folder}, {given.part}\n")
        examiner = PerturbedEvaluator(
            experiment.evaluator,
            experiment.scorer,
            experiment.fabric.device,
            questions,
            given.cutoff,
            differentiated=experiment.method,
        )
        who = (examiner, known[questions.user], given.seed)
        grid = itertools.chain(
            [examiner.cell({"attack": "clean"}, [questions.inputs])],
            noise_cells(*who, source, settings, given.draws),
            attack_cells(*who, evenly, given.positions, given.k, given.draws, given.worst, given.gradient),
        )
        facts = {"run": folder.resolve().name, "part": given.part, "users": len(questions.user), "cutoff": given.cutoff}
        facts |= {"seed": given.seed, "source": given.source, "power": given.power, **where}
        write(folder, facts, list(printed(grid)))


def printed(cells: Iterable[dict]) -> Iterator[dict]:
    """Yield the cells as they come, each printed as a line of a Markdown table."""
    import pandas as pd

    from seqrec.report.tables import markdown

    for number, cell in enumerate(cells):
        line = pd.DataFrame([{"input": _label(cell), **{name: _shown(name, cell) for name in cell["mean"]}}])
        print("\n".join(markdown(line, figures=True).splitlines()[2 * bool(number) :]), flush=True)
        yield cell


def _label(cell: dict) -> str:
    words = [cell["attack"]]
    words += [f"{cell['ratio']:g}"] if "ratio" in cell else []
    words += [f"at {cell['position']}, k={cell['k']}"] if "position" in cell else []
    return " ".join(words)


def _shown(name: str, cell: dict) -> str:
    value, deviation = cell["mean"][name], cell["std"][name]
    if math.isnan(value):
        return "-"
    if "drop" in name or name == "changed":
        return f"{100 * value:.1f} %"
    spread = f" ± {deviation:.4f}" if name.startswith(("HR", "NDCG")) and not math.isnan(deviation) else ""
    return f"{value:.4f}{spread}"


def write(folder: Path, facts: dict, cells: list[dict]) -> None:
    """Write robustness.json and robustness.csv into `folder`; what is not a number is null there, or empty."""
    import pandas as pd

    from seqrec.report.tables import write_csv

    rows = [
        {name: cell.get(name) for name in SETTING}
        | cell["mean"]
        | {f"{name} std": value for name, value in cell["std"].items()}
        for cell in cells
    ]
    write_csv(folder / "robustness.csv", pd.DataFrame(rows, dtype=object))

    def finite(values: dict[str, float]) -> dict[str, float | None]:
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    cells = [cell | {part: finite(cell[part]) for part in ("mean", "std")} for cell in cells]
    write_json(folder / "robustness.json", {**facts, "cells": cells})
