"""Read run directories; what cannot be used is named with its reason and never averaged in."""

import hashlib
import json
import os
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from seqrec.config import NOT_HASHED, YOUNGER_KEYS, with_first_addresses
from seqrec.evaluation.metrics import DEFAULT, per_user, settle_ties, summarise
from seqrec.run.directory import DONE, TRACES, read_position_profile
from seqrec.utils.errors import UserError, nearest

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, yaml.YAMLError)
TRAINING_ONLY = ("trainer.", "backbone.", "loss.", "dim")  # settings that mean nothing to an untrained method
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LeftOut:
    """A run directory that is not in the report, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """One complete run directory."""

    path: Path
    config: dict
    manifest: dict
    settings: dict[str, object]  # what decides the result, flat, without seed and noise
    noise: dict[str, object]  # the operator and its settings without ratio and seed; empty: clean
    ratio: float
    noise_sha256: str  # of the noisy training part, "" without noise
    protocol: dict[str, object]  # runs that differ in it cannot stand in one table
    test: dict[str, float]  # metrics of the test part
    values: dict[str, np.ndarray]  # the same per user, users ascending, [R]
    history: dict[str, tuple[list[int], list[float]]]  # logged value -> epochs and values
    position_profile: dict[str, np.ndarray]  # the method's own values by how far back the items are, newest first

    @property
    def draw(self) -> tuple[int, int]:
        """Seeds of the model and of the noise; runs of a row at one ratio differ in nothing else."""
        return self.config["seed"], self.config["noise"].get("seed", self.config["seed"]) if self.ratio else 0

    @property
    def trained(self) -> bool:
        """Whether the method was trained."""
        return self.manifest["epochs"] > 0


def flatten(values: dict, prefix: str = "") -> dict[str, object]:
    """Return nested keys as one level, joined by dots."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def find(folders: list[Path]) -> list[Path]:
    """Return the run directories at or below the folders, sorted, each once; raises UserError for a folder that is not there."""
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        for place, _, files in os.walk(folder):
            if TRACES & set(files):
                found.setdefault(Path(place).resolve(), Path(place))
    return sorted(found.values())


def questions_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return user, target, better, equal of the test part, users ascending, each [R]."""
    with np.load(folder / "ranks_test.npz") as ranks:
        user, target, better, equal = (ranks[name] for name in ("user", "target", "better", "equal"))
    order = np.argsort(user, kind="stable")
    return user[order], target[order], better[order], equal[order]


def read(folder: Path, metrics: list[str]) -> Run:
    """Read a complete run directory and `metrics` per user, where it has them; raises one of UNREADABLE."""
    config = with_first_addresses(yaml.load((folder / "config.yaml").read_text(), Loader))
    manifest = json.loads((folder / "manifest.json").read_text())
    test = json.loads((folder / "metrics.json").read_text())["test"]
    user, target, better, equal = questions_of(folder)
    evaluation, flat = config["eval"], flatten(config)
    for name, value in summarise(
        better, equal, evaluation["cutoffs"], evaluation["ties"], evaluation.get("metrics", DEFAULT)
    ).items():
        if not abs(test[name] - value) < 1e-6:
            raise ValueError(f"metrics.json has {name} {test[name]}, its ranks give {value:.6f}")
    better, equal = settle_ties(better, equal, evaluation["ties"])
    noise = {key: value for key, value in config["noise"].items() if key not in ("ratio", "seed", "_target_")}
    ratio = float(config["noise"].get("ratio", 0))
    return Run(
        path=folder,
        config=config,
        manifest=manifest,
        settings=settings_of(flat, trained=manifest["epochs"] > 0),
        noise=noise if ratio > 0 else {},
        ratio=ratio,
        noise_sha256=manifest["noise"]["noise_sha256"] if ratio > 0 else "",
        protocol={
            "data_sha256": manifest["data_sha256"],
            **{key: flat.get(key) for key in ("dataset.min_rating", "dataset.k_core")},
            "split": {key: value for key, value in config["split"].items() if key != "_target_"},
            **{key: manifest["protocol"][key] for key in ("cutoffs", "mask_history", "ties")},
            "questions": hashlib.sha256(user.tobytes() + target.tobytes()).hexdigest(),
        },
        test=test,
        values={name: per_user(name, better, equal) for name in metrics if name in test},
        history=history(folder / "history.jsonl") if manifest["epochs"] else {},
        position_profile=read_position_profile(folder),
    )


def settings_of(flat: dict[str, object], trained: bool) -> dict[str, object]:
    """Return what decides the result of a run but seed, what follows it, noise and the place of the data."""
    left_out = {*NOT_HASHED, "seed", "dataset.path", "dataset.file"}
    return {
        key: "${seed}" if key.endswith("_seed") and value == flat["seed"] else value  # configurations are kept resolved
        for key, value in flat.items()
        if key not in left_out
        and not (key in YOUNGER_KEYS and value == YOUNGER_KEYS[key])  # earlier runs of the same row lack it
        and not key.startswith("noise.")
        and (trained or not key.startswith(TRAINING_ONLY) or key.endswith(".name"))
    }


def history(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return, for each value of the validation part and each of the method's own, the epochs and values it was logged at."""
    logged = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            if name.startswith(("valid/", "train/")) and name != "train/loss":
                epochs, values = logged.setdefault(name, ([], []))
                epochs.append(entry["epoch"])
                values.append(value)
    return logged


def collect(folders: list[Path], metrics: list[str]) -> tuple[list[Run], list[LeftOut]]:
    """Return the runs that can stand in one table, and all others with the reason.

    Raises UserError if no run is left, or a metric is not in them.
    """
    for metric in metrics:
        per_user(metric, np.zeros(1, int), np.ones(1, int))  # raises for one that has no value per user
    runs, left_out = [], []
    for path in find(folders):
        if not (path / DONE).exists():
            left_out.append(LeftOut(path, "not complete: there is no DONE in it"))
        elif ".old-" in path.name:
            left_out.append(LeftOut(path, "set aside when the run was done again"))
        else:
            try:
                runs.append(read(path, metrics))
            except UNREADABLE as error:
                left_out.append(LeftOut(path, f"not readable: {type(error).__name__}: {error}"))
    runs, incompatible = comparable(runs)
    runs, repeated = distinct(runs)
    left_out = sorted(left_out + incompatible + repeated, key=lambda entry: entry.path)
    if not runs:
        where = ", ".join(map(str, folders))
        first = f"; the first of {len(left_out)} left out: {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"no complete run directory in {where}{first}")
    for metric in metrics:
        if metric not in runs[0].test:
            raise UserError(f"metric {metric}: the runs have {', '.join(runs[0].test)}{nearest(metric, runs[0].test)}")
    return runs, left_out


def comparable(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Part the runs of the commonest protocol (the first one of equally common ones) from the rest."""
    keys = [json.dumps(run.protocol, sort_keys=True) for run in runs]
    commonest = Counter(keys).most_common(1)[0][0] if keys else ""
    left_out = []
    for run, key in zip(runs, keys, strict=True):
        if key != commonest:
            left_out.append(LeftOut(run.path, f"not comparable: {_difference(run.protocol, json.loads(commonest))}"))
    return [run for run, key in zip(runs, keys, strict=True) if key == commonest], left_out


def _difference(protocol: dict, commonest: dict) -> str:
    differing = [key for key in commonest if protocol[key] != commonest[key]]
    if differing == ["questions"]:
        return "other users or targets in ranks_test.npz than most runs"
    return "; ".join(
        f"{key} is {protocol[key]}, in most runs {commonest[key]}" for key in differing if key != "questions"
    )


def distinct(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Part the first run of each configuration, noise and seed from its repetitions."""
    first, left_out = {}, []
    for run in runs:
        key = json.dumps([run.settings, run.noise, run.ratio, run.draw], sort_keys=True)
        if first.setdefault(key, run) is not run:
            left_out.append(LeftOut(run.path, f"repeats {first[key].path}"))
    return list(first.values()), left_out
