"""Time an experiment, alone or beside others: python scripts/benchmark.py [option ...] [key=value ...].

The overrides are those of train.py. docs/benchmark.md says what is measured.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

BEGAN = time.monotonic() - time.process_time()  # what came before this line is on the clock too
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # works without installation

# The floor has no dropout inside the feed-forward branch; with cross-entropy it leaves out that of attention as well.
ALIKE = (
    *("backbone.layers=2", "backbone.heads=2", "backbone.feedforward=4", "backbone.dropout=.5"),
    *("backbone.inner_dropout=0", "trainer.accelerator=cpu"),
)
FLOOR_LOSSES = {"bce": "backbone.attention_dropout=.5", "cross_entropy": "backbone.attention_dropout=0"}


def main() -> None:
    from seqrec.cli import above_zero, file_to_write, set_up_logging

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py, like dataset=beauty loss=bce")
    parser.add_argument(
        "--epochs", type=above_zero, default=3, help="epochs to time, after one that warms up (default 3)"
    )
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--converge", action="store_true", help="also train to the end: time to 95 %% of the best metric"
    )
    rival = parser.add_mutually_exclusive_group()
    rival.add_argument(
        "--against-floor", action="store_true", help="in turns with the least that SASRec's arithmetic takes"
    )
    rival.add_argument(
        "--against-plain", action="store_true", help="in turns with the backbone alone, under the same loss"
    )
    parser.add_argument("--peer", action="append", default=[], choices=("recbole", "rectools"), help="repeatable")
    parser.add_argument("--peer-epochs", type=above_zero, help="epochs to time of each peer (default: as --epochs)")
    parser.add_argument(
        "--venvs", type=Path, help="folder of the peers' virtual environments (default: the cache folder)"
    )
    arguments = parser.parse_intermixed_args()  # overrides may stand anywhere
    config = configure(arguments.overrides, arguments.against_floor, bool(arguments.peer))

    from seqrec.commands.benchmark import Plain, benchmark, ratios, report  # brings torch
    from seqrec.utils.files import write_json

    set_up_logging()
    make_rival = floor_of if arguments.against_floor else Plain if arguments.against_plain else None
    experiment, result, timings = benchmark(config, arguments.epochs, BEGAN, make_rival)
    if arguments.converge:
        result["converge"] = converge(config)
    for name in arguments.peer:
        from peers.launch import Failed, time_peer

        try:
            epochs = arguments.peer_epochs or arguments.epochs
            timings.append(time_peer(name, experiment, epochs, arguments.venvs))
        except Failed as failure:
            result.setdefault("failed", {})[name] = str(failure)
            print(f"{name} failed: {failure}", file=sys.stderr)
    print_facts(result)
    print(report(timings))
    if arguments.json:
        result |= {"systems": [timing.summary() for timing in timings], "ratios": ratios(timings)}
        chosen = {"--against-floor": arguments.against_floor, "--against-plain": arguments.against_plain}
        result["arguments"] = [*arguments.overrides, *(flag for flag, given in chosen.items() if given)]
        write_json(arguments.json, result)


def configure(overrides: list[str], floor: bool, peers: bool):
    """Compose the configuration; beside others it must be a plain SASRec, and beside the floor one like the floor's."""
    from hydra import compose, initialize_config_dir

    from seqrec.config import apply_variant, check
    from seqrec.utils.errors import UserError

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides)
        if floor or peers:
            for group, wanted in (("backbone", "sasrec"), ("method", "plain"), ("split", "leave_one_out")):
                if config[group].name != wanted:
                    raise UserError(f"{group}={config[group].name}: others are compared with {group}={wanted} only")
        if floor:
            if config.loss.name not in FLOOR_LOSSES:
                raise UserError(f"loss={config.loss.name}: the floor has {' and '.join(FLOOR_LOSSES)}")
            config = compose("config", [*ALIKE, FLOOR_LOSSES[config.loss.name], *overrides])
        elif peers:
            config = compose("config", ["trainer.accelerator=cpu", *overrides])
    config = apply_variant(config)
    check(config)
    return config


def floor_of(experiment):
    """Make the floor on the same training sequences and test questions."""
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


def converge(config) -> dict:
    """Run the whole experiment in a temporary directory; returns when its validation metric was nearly at its best."""
    from seqrec.commands.benchmark import time_to_good
    from seqrec.experiment import run
    from seqrec.run.directory import RunDir

    with tempfile.TemporaryDirectory() as folder:
        run(config, RunDir(Path(folder)))
        lines = Path(folder, "history.jsonl").read_text().splitlines()
    return time_to_good([json.loads(line) for line in lines], config.trainer.monitor)


def print_facts(result: dict) -> None:
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


if __name__ == "__main__":
    from seqrec.cli import guarded

    sys.exit(guarded(main))
