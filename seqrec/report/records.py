"""Rows of results/*.csv, made from complete run directories."""

import csv
import functools
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra.errors import HydraException
from omegaconf import OmegaConf

from seqrec.evaluation.perturbation import SETTING
from seqrec.evidence.commands import Compose, command_of, normal
from seqrec.report.collect import UNREADABLE, Run, find
from seqrec.report.collect import read as read_run
from seqrec.report.statistics import DRAWS, compare, resampled
from seqrec.run.directory import DONE, RunDir
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "MRR")
COMPARED = ("HR@10", "NDCG@10")


@dataclass(frozen=True)
class Finished:
    """A complete run directory, and the command it can be had with."""

    command: str  # without seed
    run: Run
    metrics: dict  # of the validation and of the test part

    @functools.cached_property
    def place(self) -> str:
        """Normal form of the command."""
        return normal(self.command)

    @property
    def seed(self) -> int:
        """Seed of the model."""
        return self.run.config["seed"]


def finished(folders: list[Path], compose: Compose) -> list[Finished]:
    """Read the complete run directories at or below folders, those set aside left out.

    Raises UserError, naming the directory, for one that cannot be read or put as a command, and for two of one command and seed.
    """
    found = {}
    for path in find(folders):
        if not (path / DONE).exists() or ".old-" in path.name:
            continue
        try:
            run = read_run(path, COMPARED)
            command = command_of(OmegaConf.load(path / "config.yaml"), compose)
        except (*UNREADABLE, UserError, HydraException) as error:
            raise UserError(f"{path}: {error}; leave it out or mend it") from error
        place = normal(command), run.config["seed"]
        if place in found:
            raise UserError(f"{found[place].run.path} and {path} are runs of the same command and seed; leave one out")
        found[place] = Finished(command, run, RunDir(path).metrics())
    if folders and not found:
        raise UserError(f"{', '.join(map(str, folders))}: no finished run at or below")
    return list(found.values())


def run_row(done: Finished) -> dict[str, object]:
    """Return the row of a run in runs.csv; a metric that was not asked for is left empty."""
    config, manifest = done.run.config, done.run.manifest
    row = {
        "command": done.command,
        "seed": done.seed,
        "configuration": manifest["config_hash"],
        "dataset": config["dataset"]["name"],
        "noise": done.run.noise.get("name", "none"),
        "ratio": config["noise"].get("ratio", 0),
        **{group: config[group]["name"] for group in ("backbone", "loss", "method")},
        "width": config["dim"],
        "parameters": manifest["parameters"],
        "epochs": manifest["epochs"],
        "best_epoch": done.metrics["best_epoch"],
        "stopped": manifest["stopped"],
        "train_seconds": manifest["train_seconds"],
        "wall_seconds": manifest["wall_seconds"],
        "machine": machine_of(manifest),
        "threads": manifest["threads"],
        "commit": manifest["git_commit"],
        "data_sha256": manifest["data_sha256"],
    }
    for part in ("valid", "test"):
        values = done.metrics[part]
        row |= {f"{part} {name}": round(values[name], 6) if name in values else None for name in METRICS}
    return row


def training_row(done: Finished) -> dict[str, object]:
    """Return what a run logged of its training in its best epoch, for training.csv."""
    epochs = map(json.loads, (done.run.path / "history.jsonl").read_text().splitlines())
    best = next(logged for logged in epochs if logged["epoch"] == done.metrics["best_epoch"])
    values = rounded({name: value for name, value in best.items() if name.startswith("train/")})
    return {"command": done.command, "seed": done.seed, "epoch": best["epoch"], **values}


def perturbed_rows(done: Finished) -> list[dict[str, object]]:
    """Return a row per cell of a run's robustness.json, if there is one, for perturbed.csv.

    Raises UserError if it is about another part than the test.
    """
    path = done.run.path / "robustness.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    if found["part"] != "test":
        raise UserError(f"{path}: it is about --part {found['part']}; only the test part is recorded")
    facts = {name: found[name] for name in ("source", "power", "where", "last", "window", "cutoff")}
    facts["perturbation seed"] = found["seed"]
    start = {"command": done.command, "seed": done.seed}
    rows = []
    for cell in found["cells"]:
        setting = {name: cell.get(name) for name in SETTING}
        deviations = {f"{name} sd": value for name, value in cell["std"].items()}
        rows.append(start | setting | facts | rounded(cell["mean"] | deviations))
    return rows


def detection_rows(done: Finished) -> list[dict[str, object]]:
    """Return the rows of a run's noise_detection.csv, if there is one, for detection.csv."""
    path = done.run.path / "noise_detection.csv"
    return [{"command": done.command, "seed": done.seed, **row} for row in read(path)] if path.exists() else []


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    """Return numbers with six significant digits."""
    return {name: None if value is None else float(f"{value:.6g}") for name, value in values.items()}


def benchmark_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of a file of `scripts/benchmark.py --json`, for benchmarks.csv: a row per system.

    Its ratios are those of the first system to this one.
    """
    result = json.loads(path.read_text())
    facts = {
        "machine": machine_of(result),
        "threads": result["threads"],
        "commit": result["git_commit"],
        "start_to_first_step": round(result["start_to_first_step"], 2),
    }
    rows = []
    for system in result["systems"]:
        figures = {name: value for name, value in system.items() if name not in ("name", "epochs", "evaluations")}
        ratios = {f"{name} ratio": value for name, value in result["ratios"].get(system["name"], {}).items()}
        start = {"command": " ".join(result["arguments"]), "system": system["name"]}
        rows.append(start | rounded(figures | ratios) | facts)
    return rows


def machine_of(manifest: dict) -> str:
    """Return the processor or accelerator and the number of cores that facts on a run tell."""
    machine = manifest["machine"]
    return machine["processor"] + (f", {machine['cores']} cores" if "cores" in machine else "")


def gain_rows(runs: list[Finished], command: str, against: str) -> list[dict[str, object]]:
    """Compare two commands on the seeds that both have, for gains.csv; empty if there are none.

    The gain is relative, of metrics per user averaged over seeds, with a 95 % interval by bootstrap over users and
    Wilcoxon's p. Raises UserError if the two were not evaluated alike.
    """
    ours, theirs = (
        {done.seed: done.run for done in runs if done.place == place} for place in (normal(command), normal(against))
    )
    seeds = sorted(set(ours) & set(theirs))
    sides = [[runs_of[seed] for seed in seeds] for runs_of in (ours, theirs)]
    for run in (*sides[0], *sides[1]):
        if run.protocol != sides[0][0].protocol:
            raise UserError(f"{run.path} and {sides[0][0].path} were evaluated on other data or by other rules")
    rows = []
    for metric in (name for name in COMPARED if seeds and name in sides[0][0].values):
        own, other = (np.mean([run.values[metric] for run in side], axis=0) for side in sides)
        drawn = resampled(np.stack([own, other], axis=1), DRAWS, seed=0)
        low, high = np.quantile(drawn[:, 0] / drawn[:, 1] - 1, [0.025, 0.975])
        rows.append(
            {
                "command": command,
                "against": against,
                "seeds": " ".join(map(str, seeds)),
                "metric": metric,
                "gain": round(own.mean() / other.mean() - 1, 6),
                "low": round(low, 6),
                "high": round(high, 6),
                "p": f"{compare(own, other).p:.3g}",
                "users": len(own),
            }
        )
    return rows


def merge(path: Path, rows: Iterable[dict[str, object]], keys: tuple[str, ...], owner: tuple[str, ...] = ()) -> int:
    """Put rows into a CSV file, in the place of those with the same keys; returns how many rows are new or changed.

    Rows that have the same `owner` keys as one of the new rows go first: a run's grid is replaced as a whole. Columns that a row
    does not have stay empty. The file is sorted by the keys, and written whole or not at all.
    """
    old = {tuple(row[key] for key in keys): row for row in (read(path) if path.exists() else [])}
    new = {}
    for row in rows:
        row = {name: "" if value is None else str(value) for name, value in row.items()}
        new[tuple(row[key] for key in keys)] = row
    gone = {tuple(row[key] for key in owner) for row in new.values()} if owner else set()
    table = {place: row for place, row in old.items() if tuple(row[key] for key in owner) not in gone} | new
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table[place] for place in sorted(table, key=_numbers_as_numbers))
    write_atomically(path, stream.getvalue().encode())
    return sum(_filled(old.get(place, {}), columns) != _filled(row, columns) for place, row in new.items())


def _numbers_as_numbers(place: tuple[str, ...]) -> list[tuple[int, str]]:
    return [(int(word) if word.isdigit() else 0, word) for word in place]


def _filled(row: dict[str, str], columns: list[str]) -> list[str]:
    return [row.get(column, "") for column in columns]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
