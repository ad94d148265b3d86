"""Perturb the inputs of finished runs at test time: `python scripts/robustness.py outputs/... --noise insert,delete --ratio 0,.1,.2`.

Each run gives a Markdown table, and robustness.json and robustness.csv in its directory. docs/robustness.md defines the
measures. Without --noise and --positions: insert, replace, delete and swap.
"""

import argparse
import itertools
import sys
from pathlib import Path

from seqrec.cli import above_zero, guarded


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def numbers(text: str) -> list[float]:
    return [float(word) for word in words(text)]


def counts(text: str) -> list[int]:
    return [above_zero(word) for word in words(text)]


def kept(cells, into: list):
    for cell in cells:
        into.append(cell)
        yield cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    noise = parser.add_argument_group("noise")
    noise.add_argument("--noise", type=words, help="operators; insert+delete is a mix")
    noise.add_argument("--ratio", type=numbers, default=[0, 0.1, 0.2, 0.3], help="shares of the input (0,.1,.2,.3)")
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
    arguments = parser.parse_args()
    if not arguments.positions and (arguments.worst or arguments.gradient or arguments.k != [1]):
        parser.error("--k, --worst and --gradient say what is put at --positions: give some")

    from omegaconf import OmegaConf

    from seqrec.build import load, make
    from seqrec.evaluation.attacks import check
    from seqrec.evaluation.perturbation import Examiner, attack_cells, noise_cells, table, write
    from seqrec.noise.foreign_items import ForeignItems
    from seqrec.utils.keyed_random import user_keys

    operators = arguments.noise or ([] if arguments.positions else ["insert", "replace", "delete", "swap"])
    place = {name: getattr(arguments, name) for name in ("where", "last", "window")}
    for folder in arguments.runs:
        experiment = load(folder, data_dir=arguments.data_dir)
        method, questions = experiment.method, getattr(experiment.split, arguments.part)
        check(arguments.positions, method if arguments.gradient else None)
        # the training part before any training noise, so that every run meets the same perturbations
        train = make(OmegaConf.to_container(experiment.config.split, resolve=True))(experiment.dataset).train
        num_items, known = experiment.dataset.num_items, user_keys(experiment.dataset.user_ids)
        source = ForeignItems(train, known, num_items, arguments.source, arguments.power)
        evenly = ForeignItems(train, known, num_items, "uniform", 0.0)

        print(f"\n{folder}, {arguments.part}\n")
        examiner = Examiner(experiment.evaluator, method, experiment.fabric.device, questions, arguments.cutoff)
        who = (examiner, known[questions.user], arguments.seed)
        cells = []
        grid = itertools.chain(
            [examiner.cell({"attack": "clean"}, [questions.inputs])],
            noise_cells(*who, source, operators, arguments.ratio, arguments.draws, **place),
            attack_cells(
                *(*who, evenly, arguments.positions, arguments.k),
                *(arguments.draws, arguments.worst, arguments.gradient),
            ),
        )
        for line in table(kept(grid, cells)):
            print(line, flush=True)
        facts = {
            "run": folder.resolve().name,
            "part": arguments.part,
            "users": len(questions.user),
            "cutoff": arguments.cutoff,
        }
        facts |= {"seed": arguments.seed, "source": arguments.source, "power": arguments.power, **place}
        write(folder, facts, cells)


if __name__ == "__main__":
    sys.exit(guarded(main))
