"""Rows of results/*.csv, made from complete run directories."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from seqrec.errors import UserError
from seqrec.evidence.commands import Compose, command_of, normal
from seqrec.files import write_atomically
from seqrec.report.collect import find, per_user, questions_of
from seqrec.report.statistics import DRAWS, compare, resampled
from seqrec.run_dir import DONE

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "MRR")
COMPARED = ("HR@10", "NDCG@10")


@dataclass(frozen=True)
class Finished:
    """A complete run directory, and the command it can be had with."""

    path: Path
    command: str  # without seed
    config: DictConfig
    manifest: dict
    metrics: dict

    @property
    def seed(self) -> int:
        """Seed of the model."""
        return self.config.seed

    def values(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and a metric of each on the test part, [R] both."""
        user, _, better, equal = questions_of(self.path)
        return user, per_user(metric, better, equal)


def finished(folders: list[Path], compose: Compose) -> list[Finished]:
    """Read the complete run directories at or below folders, those set aside left out; raises UserError with the directory."""
    runs = []
    for path in find(folders):
        if (path / DONE).exists() and ".old-" not in path.name:
            config = OmegaConf.load(path / "config.yaml")
            manifest, metrics = (json.loads((path / name).read_text()) for name in ("manifest.json", "metrics.json"))
            try:
                command = command_of(config, compose)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            runs.append(Finished(path, command, config, manifest, metrics))
    return runs


def run_row(run: Finished) -> dict[str, object]:
    """Return the row of a run in runs.csv."""
    config, manifest = run.config, run.manifest
    noise = config.noise
    row = {
        "command": run.command,
        "seed": run.seed,
        "configuration": manifest["config_hash"],
        "dataset": config.dataset.name,
        "noise": noise.name if noise.get("ratio") else "none",
        "ratio": noise.get("ratio", 0),
        "backbone": config.backbone.name,
        "loss": config.loss.name,
        "method": config.method.name,
        "width": config.dim,
        "parameters": manifest["parameters"],
        "epochs": manifest["epochs"],
        "best_epoch": run.metrics["best_epoch"],
        "stopped": manifest["stopped"],
        "train_seconds": manifest["train_seconds"],
        "wall_seconds": manifest["wall_seconds"],
        "machine": machine_of(manifest),
        "threads": manifest["threads"],
        "commit": manifest["git_commit"],
        "data_sha256": manifest["data_sha256"],
    }
    for part in ("valid", "test"):
        row |= {f"{part} {name}": round(run.metrics[part][name], 6) for name in METRICS}
    return row


def rows_beside(run: Finished, name: str) -> list[dict[str, object]]:
    """Return the rows of a CSV file that a script has left in a run's directory, if there is one."""
    path = run.path / name
    return [{"command": run.command, "seed": run.seed, **row} for row in read(path)] if path.exists() else []


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
        figures = {name: value for name, value in system.items() if not isinstance(value, list)}
        ratios = {f"{name} ratio": value for name, value in result["ratios"].get(system["name"], {}).items()}
        figures = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in (figures | ratios).items()}
        rows.append({"command": " ".join(result["arguments"]), "system": figures.pop("name"), **figures, **facts})
    return rows


def machine_of(manifest: dict) -> str:
    """Return the processor or accelerator and the number of cores that facts on a run tell."""
    machine = manifest["machine"]
    return machine["processor"] + (f", {machine['cores']} cores" if "cores" in machine else "")


def gain_rows(runs: list[Finished], command: str, against: str) -> list[dict[str, object]]:
    """Compare two commands on the seeds that both have, for gains.csv; empty if there are none.

    The gain is relative, of metrics per user averaged over seeds, with a 95 % interval by bootstrap over users and
    Wilcoxon's p. Raises UserError if the two were asked about different users.
    """
    ours, theirs = (
        {run.seed: run for run in runs if normal(run.command) == normal(name)} for name in (command, against)
    )
    seeds = sorted(set(ours) & set(theirs))
    rows = []
    for metric in COMPARED if seeds else ():
        pairs = [(ours[seed].values(metric), theirs[seed].values(metric)) for seed in seeds]
        users = pairs[0][0][0]
        if not all(np.array_equal(asked, users) for pair in pairs for asked, _ in pair):
            raise UserError(f"'{command}' and '{against}' were not asked about the same users")
        own, other = (np.mean([pair[side][1] for pair in pairs], axis=0) for side in (0, 1))
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
                "users": len(users),
            }
        )
    return rows


def merge(path: Path, rows: Iterable[dict[str, object]], keys: tuple[str, ...]) -> int:
    """Put rows into a CSV file, in the place of those with the same keys; returns how many rows are new or changed.

    Columns that a row does not have stay empty. The file is sorted by the keys, and written whole or not at all.
    """
    old = read(path) if path.exists() else []
    table = {tuple(row[key] for key in keys): row for row in old}
    changed = 0
    for row in rows:
        row = {name: "" if value is None else str(value) for name, value in row.items()}
        place = tuple(row[key] for key in keys)
        changed += table.get(place) != row
        table[place] = row
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table[place] for place in sorted(table))
    write_atomically(path, stream.getvalue().encode())
    return changed


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
