"""Time an experiment, alone or beside others. docs/benchmark.md explains what is measured."""

import json
import sys
import tempfile
import time
from pathlib import Path

from omegaconf import DictConfig

from seqrec.cli import Parser, above_zero, compose_config, file_to_write, set_up_logging
from seqrec.commands.catalogue import sizes, time_catalogues
from seqrec.config import apply_variant, check
from seqrec.utils.errors import UserError

BEGAN = time.monotonic() - time.process_time()  # the imports before this line are timed too
SCRIPTS = Path(__file__).parents[2] / "scripts"  # of a checkout; the floor and the peers are not installed

# The floor has no dropout inside the feed-forward branch; with cross-entropy it leaves out that of attention as well.
ALIKE = (
    *("backbone.layers=2", "backbone.heads=2", "backbone.feedforward=4", "backbone.dropout=.5"),
    *("backbone.inner_dropout=0", "trainer.accelerator=cpu"),
)
FLOOR_LOSSES = {"bce": "backbone.attention_dropout=.5", "cross_entropy": "backbone.attention_dropout=0"}


def main(arguments: list[str] | None = None) -> None:
    """Time, print the table, and write it as JSON if asked."""
    parser = Parser(__doc__)
    parser.add_argument("overrides", nargs="*", help="as for training, like dataset=beauty loss=bce")
    parser.add_argument(
        "--epochs", type=above_zero, default=3, help="epochs to time, after one that warms up (default 3)"
    )
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--converge", action="store_true", help="also train to the end: time to 95 %% of the best metric"
    )
    rival = parser.add_mutually_exclusive_group()
    rival.add_argument(
        "--catalogue", type=sizes, metavar="N,N", help="on synthetic data of so many items, one after the other"
    )
    rival.add_argument(
        "--against-floor", action="store_true", help="in turns with the least that SASRec's arithmetic takes"
    )
    rival.add_argument(
        "--against-plain", action="store_true", help="in turns with the backbone alone, under the same loss"
    )
    rival.add_argument(
        "--processes", action="store_true", help="one process against two, each with one thread, as a ratio"
    )
    parser.add_argument("--peer", action="append", default=[], choices=("recbole", "rectools"), help="repeatable")
    parser.add_argument("--peer-epochs", type=above_zero, help="epochs to time of each peer (default: as --epochs)")
    parser.add_argument(
        "--venvs", type=Path, help="folder of the peers' virtual environments (default: the cache folder)"
    )
    given = parser.parse_intermixed_args(arguments)  # overrides may come anywhere
    if (given.catalogue or given.processes) and (given.peer or given.converge):
        parser.error("--catalogue and --processes go with neither --peer nor --converge")
    if (given.venvs or given.peer_epochs) and not given.peer:
        parser.error("--venvs and --peer-epochs go with --peer")
    if given.against_floor or given.peer or given.processes:
        import_from_checkout()
    if given.processes:
        compare_processes(given.overrides, given.epochs, given.json)
        return
    config = configure(given.overrides, given.against_floor, bool(given.peer))
    if given.catalogue and "clusters" not in config.dataset:
        raise UserError(f"--catalogue generates data sets of its own: leave out dataset={config.dataset.name}")

    from seqrec.commands.timing import Plain, Timing, benchmark  # imports torch

    set_up_logging()
    if given.catalogue:
        result = time_catalogues(given.catalogue, given.overrides, given.epochs)
        timings = [Timing.of(system) for system in result["systems"]]
        write_up(result, timings, given.json, [*given.overrides, f"--catalogue {','.join(map(str, given.catalogue))}"])
        return
    make_rival = floor_of if given.against_floor else Plain if given.against_plain else None
    experiment, result, timings = benchmark(config, given.epochs, BEGAN, make_rival)
    if given.converge:
        result["converge"] = converge(config)
    for name in given.peer:
        from peers.launch import Failed, time_peer

        try:
            epochs = given.peer_epochs or given.epochs
            timings.append(time_peer(name, experiment, epochs, given.venvs))
        except Failed as failure:
            result.setdefault("failed", {})[name] = str(failure)
            print(f"{name} failed: {failure}", file=sys.stderr)
    rivals = {"--against-floor": given.against_floor, "--against-plain": given.against_plain}
    flags = [flag for flag, on in rivals.items() if on] + [f"--peer {name}" for name in given.peer]
    if given.peer_epochs:
        flags.append(f"--peer-epochs {given.peer_epochs}")
    write_up(result, timings, given.json, [*given.overrides, *flags])


def compare_processes(overrides: list[str], epochs: int, file: Path | None) -> None:
    """Print the rates of one process and of two, and write all figures to the file if there is one."""
    from seqrec.commands.processes import report, time_processes
    from seqrec.utils.files import write_json

    result = time_processes(overrides, epochs)
    print(report(result))
    if file:
        write_json(file, result | {"arguments": [*overrides, "--processes"]})


def write_up(result: dict, timings: list, file: Path | None, arguments: list[str]) -> None:
    """Print the table, and write all figures to the file if there is one."""
    from seqrec.commands.timing import ratios, report
    from seqrec.utils.files import write_json

    print_facts(result)
    print(report(timings))
    if file:
        systems = {"systems": [timing.summary() for timing in timings], "ratios": ratios(timings)}
        write_json(file, result | systems | {"arguments": arguments})


def import_from_checkout() -> None:
    """Make scripts/ importable. Raises UserError where seqrec was installed without a checkout."""
    if not (SCRIPTS / "floor.py").exists():
        raise UserError(
            "--against-floor, --peer and --processes work in a checkout only: they need its scripts/ and train.py"
        )
    sys.path.append(str(SCRIPTS))


def configure(overrides: list[str], floor: bool, peers: bool) -> DictConfig:
    """Compose the configuration; beside others it must be a plain SASRec, and beside the floor one like the floor's."""
    config = compose_config(overrides)
    if floor or peers:
        for group, wanted in (("backbone", "sasrec"), ("method", "plain"), ("split", "leave_one_out")):
            if config[group].name != wanted:
                raise UserError(f"{group}={config[group].name}: others are compared with {group}={wanted} only")
    if floor:
        if config.loss.name not in FLOOR_LOSSES:
            raise UserError(f"loss={config.loss.name}: the floor has {' and '.join(FLOOR_LOSSES)}")
        config = compose_config([*ALIKE, FLOOR_LOSSES[config.loss.name], *overrides])
    elif peers:
        config = compose_config(["trainer.accelerator=cpu", *overrides])
    config = apply_variant(config)
    check(config)
    return config


def floor_of(experiment):
    """Make the floor for the same training sequences and test set."""
    from floor import Floor

    config, split = experiment.config, experiment.split

    def rows(sequences):
        return [sequences.items[a:b] for a, b in zip(sequences.start, sequences.stop, strict=True)]

    return Floor(
        rows(split.train),
        rows(split.test.inputs),
        split.test.target,
        num_items=experiment.dataset.num_items,
        max_len=config.max_len,
        batch_size=config.trainer.batch_size,
        loss=config.loss.name,
        lr=config.trainer.optimizer.lr,
        dim=config.dim,
        **{key: config.backbone[key] for key in ("layers", "heads", "feedforward", "dropout", "attention_dropout")},
    )


def converge(config: DictConfig) -> dict:
    """Run the whole experiment in a temporary directory; returns when its validation metric was close to its best."""
    from seqrec.commands.timing import time_to_good
    from seqrec.experiment import run
    from seqrec.runs.directory import RunDir

    with tempfile.TemporaryDirectory() as folder:
        run(config, RunDir(Path(folder)))
        lines = Path(folder, "history.jsonl").read_text().splitlines()
    return time_to_good([json.loads(line) for line in lines], config.trainer.monitor)


def print_facts(result: dict) -> None:
    """Print what was timed, and what is not in the table."""
    print(
        f"\n{result['method']} on {result['backbone']}, loss {result['loss']}, dataset {result['dataset']}, "
        f"{result['device']}, {result['threads']} threads"
    )
    print(f"start to first step: {result['start_to_first_step']:.2f} s")
    if "converge" in result:
        good = result["converge"]
        print(
            f"{good['share']:.0%} of the best {good['metric']} ({good['best']:.4f}): {good['seconds']:.1f} s of training and "
            f"validation, epoch {good['epoch']} of {good['epochs']}"
        )
