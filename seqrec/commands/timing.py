"""How long an experiment takes: to its first step, for an epoch, for a full ranking, and to a good model."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from seqrec.build import Experiment, build, make_trainer, refuse_impossible
from seqrec.report.tables import markdown
from seqrec.runs.manifest import environment, peak_memory
from seqrec.utils.errors import UserError

EVALUATIONS = 3
COLUMNS = {  # of the table: heading -> figure and its form
    **{"system": ("name", "{}"), "targets": ("targets", "{:,}"), "s/epoch": ("epoch_median", "{:.3f}")},
    **{"fastest epoch": ("epoch_min", "{:.3f}"), "targets/s": ("targets_per_second", "{:,.0f}")},
    **{"s/ranking": ("evaluation_median", "{:.3f}"), "fastest ranking": ("evaluation_min", "{:.3f}")},
    "users/s": ("users_per_second", "{:,.0f}"),
}


class Plain:
    """The backbone alone on the same data, under the same loss and trainer: what a method's cost is a multiple of."""

    name = "plain"

    def __init__(self, experiment: Experiment):
        config = OmegaConf.create(OmegaConf.to_container(experiment.config))
        config.method = {"name": "plain", "_target_": "seqrec.methods.base.Method"}
        self.experiment, self.epochs = build(config), 0
        self.trainer = make_trainer(self.experiment, Path(), lambda _: None)
        self.trainer.begin_stage()

    def epoch(self) -> float:
        """Train an epoch; returns its seconds."""
        began = time.monotonic()
        for batch in self.experiment.loader.epoch(self.epochs):
            self.trainer.step(batch)
        self.trainer.read()
        self.epochs += 1
        return time.monotonic() - began

    def evaluate(self) -> float:
        """Rank the whole test set; returns the seconds."""
        return _rank_seconds(self.experiment)


def _rank_seconds(experiment: Experiment) -> float:
    began = time.monotonic()
    experiment.evaluator.ranks(experiment.method, experiment.split.test, experiment.fabric.device)
    return time.monotonic() - began


@dataclass
class Timing:
    """Seconds per epoch and per full ranking of one system."""

    name: str
    targets: int  # trained on in an epoch
    users: int  # ranked for
    epochs: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None

    @classmethod
    def of(cls, summary: dict) -> "Timing":
        """Return the timing that a summary was made of."""
        return cls(**{item.name: summary[item.name] for item in fields(cls)})

    def summary(self) -> dict:
        """Return the figures of a report; rates are those of the fastest epoch and ranking."""
        return {
            **asdict(self),
            "epoch_median": median(self.epochs),
            "epoch_min": min(self.epochs),
            "targets_per_second": self.targets / min(self.epochs),
            "evaluation_median": median(self.evaluations),
            "evaluation_min": min(self.evaluations),
            "users_per_second": self.users / min(self.evaluations),
        }


class _Enough(Exception):
    """Ends a training that has been timed for long enough."""


def benchmark(
    config: DictConfig, epochs: int, began: float, make_rival: Callable | None = None
) -> tuple[Experiment, dict, list[Timing]]:
    """Time every stage of the method for `epochs` epochs each; returns the experiment, facts, and a timing per stage.

    `began` is the time.monotonic() of the start of the process. A rival has a `name`, and `epoch()` and
    `evaluate()` that return seconds. It is timed in turns with the experiment, so that a busy machine slows both alike;
    its timing comes last.
    Raises UserError for a method that is not trained, and for what cannot be combined.
    """
    config = config.copy()
    config.trainer.eval_every = epochs + 2  # more than is timed: no validation in between
    config.trainer.max_epochs = max(config.trainer.max_epochs, epochs + 2)
    refuse_impossible(config, multirun=False)
    experiment = build(config)
    method = experiment.method
    if not method.trained:
        raise UserError(f"method={config.method.name} is not trained: there is no epoch to time")
    first_steps, preparations = [], []
    method.optimize = _timed(method.optimize, lambda _: first_steps or first_steps.append(time.monotonic() - began))
    method.on_epoch = _timed(method.on_epoch, preparations.append)
    timings, rivals = [], []
    for stage in range(method.stages):
        suffix = "" if method.stages == 1 else f", stage {stage + 1}"
        timing, rival = _time_stage(experiment, stage, epochs, preparations, make_rival)
        timing.name = "seqrec" + suffix
        timings.append(timing)
        if rival:
            rival.name += suffix
            rivals.append(rival)
    facts = {
        **environment(experiment.fabric.device),
        **{group: config[group].name for group in ("dataset", "backbone", "method", "loss")},
        "device": str(experiment.fabric.device),
        "threads": torch.get_num_threads(),
        "start_to_first_step": first_steps[0],
    }
    return experiment, facts, timings + rivals


def _timed(call: Callable, note: Callable[[float], object]) -> Callable:
    """Wrap `call` so that `note` gets the seconds of each call."""

    def run(*arguments):
        began = time.monotonic()
        result = call(*arguments)
        note(time.monotonic() - began)
        return result

    return run


def _time_stage(experiment, stage, epochs, preparations, make_rival) -> tuple[Timing, Timing | None]:
    """Train a stage through the trainer itself, from the weights that are there; the first epoch and ranking only warm up."""
    questions = experiment.split.test
    ours = Timing("", experiment.loader.targets, len(questions.user))
    theirs = Timing("", ours.targets, ours.users)
    rival = None

    def record(history: list[dict]) -> None:
        nonlocal rival
        ours.epochs.append(history[-1]["train_seconds"] + preparations[-1])
        if len(history) == 1:
            _rank_seconds(experiment)
            if stage == 0 or make_rival is None:  # later the rival has allocated memory too
                ours.peak_memory_bytes = peak_memory(experiment.fabric.device)
            rival = make_rival and make_rival(experiment)
        if rival:
            theirs.name = rival.name
            theirs.epochs.append(rival.epoch())
        if len(history) > epochs:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, suppress(_Enough):
        trainer = make_trainer(experiment, Path(folder), record)
        trainer.state.stage = stage
        trainer.fit()
    if len(ours.epochs) <= epochs:
        raise UserError(
            f"stage {stage + 1} ended after {len(ours.epochs)} epochs, {epochs} and one to warm up were to be timed: "
            "take fewer, or let the method have more"
        )
    if rival:
        rival.evaluate()
    for _ in range(EVALUATIONS):
        ours.evaluations.append(_rank_seconds(experiment))
        if rival:
            theirs.evaluations.append(rival.evaluate())
    for timing in (ours, theirs) if rival else (ours,):
        del timing.epochs[0]
    return ours, theirs if rival else None


def time_to_good(history: list[dict], monitor: str, share: float = 0.95) -> dict:
    """Return when the monitored validation metric first reached `share` of the best value of the run.

    Seconds are those of training and validation from the first step on.
    """
    key = f"valid/{monitor}"
    best = max(entry[key] for entry in history if key in entry)
    seconds = 0.0
    for entry in history:
        seconds += entry["train_seconds"] + entry.get("valid_seconds", 0.0)
        if entry.get(key, -1.0) >= share * best:
            break
    return {
        "metric": monitor,
        "best": best,
        "share": share,
        "seconds": seconds,
        "epoch": entry["epoch"],
        "epochs": len(history),
    }


def ratios(timings: list[Timing]) -> dict[str, dict[str, float]]:
    """Return, per other system, the time of the first, in the same stage where it has several, as a multiple of its time."""
    keys = ("epoch_median", "epoch_min", "evaluation_median", "evaluation_min")
    found = {}
    for other in timings:
        stage = other.name.partition(", ")[2]
        ours = next(timing for timing in timings if timing.name.partition(", ")[2] == stage)
        if ours is not other:
            found[other.name] = {key: ours.summary()[key] / other.summary()[key] for key in keys}
    return found


def report(timings: list[Timing]) -> str:
    """Return a Markdown table of all systems, and under it the ratios."""
    found = [timing.summary() for timing in timings]
    memory = ["" if s["peak_memory_bytes"] is None else f"{s['peak_memory_bytes'] / 1e6:,.0f}" for s in found]
    columns = {name: [form.format(s[key]) for s in found] for name, (key, form) in COLUMNS.items()}
    lines = markdown(pd.DataFrame({**columns, "peak MB": memory}), figures=True).splitlines()
    first = timings[0].name.partition(", ")[0]
    for name, ratio in ratios(timings).items():
        lines.append(
            f"{first} / {name}: epoch {ratio['epoch_median']:.3g} (fastest {ratio['epoch_min']:.3g}), "
            f"ranking {ratio['evaluation_median']:.3g} (fastest {ratio['evaluation_min']:.3g})"
        )
    return "\n".join(lines)
