"""Read finished run directories; what cannot be used is named with its reason and never averaged in."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqrec.config import digest, flatten, hashed_values, method_name
from seqrec.evaluation.metrics import DEFAULT, per_user, settle_ties, summarise
from seqrec.runs.directory import DONE, STUDY_FOLDER, TRACES, read_position_profile
from seqrec.utils.errors import UserError
from seqrec.utils.plain_yaml import read_plain

COPIES = ("mlruns", "wandb")  # folders of loggers, with copies of the files of runs
FILTERS = ("min_rating", "k_core", "keep", "session_minutes", "drop_repeats")  # of dataset; earlier runs lack some
TRAINING_ONLY = ("trainer.", "backbone.", "loss.", "dim")  # settings that mean nothing to an untrained method


@dataclass(frozen=True)
class LeftOut:
    """A run directory that is not used, and why."""

    path: Path
    reason: str


class Run:
    """One complete run directory; all that is computed of it later is read and checked here, so a damaged file raises something."""

    foreign = False  # whether another system made it

    def __init__(self, path: Path, metrics: list[str]):
        """Read the directory, and those of the metrics per user that it has."""
        self.path = path
        self.config = config = read_plain(path / "config.yaml")
        self.manifest = manifest = json.loads((path / "manifest.json").read_text())
        written = json.loads((path / "metrics.json").read_text())
        self.valid, self.test = ({k: float(v) for k, v in written[split].items()} for split in ("valid", "test"))
        self.best_epoch = int(written["best_epoch"])  # 0 for an untrained method
        self.names = {group: str(config[group]["name"]) for group in ("dataset", "backbone", "loss")}
        self.names["method"] = str(method_name(config))
        self.variant = str(config.get("variant") or "")
        self.seed = int(config["seed"])
        self.trained = int(manifest["epochs"]) > 0
        self.prefixes = bool(manifest["protocol"]["prefixes"])
        size = ", ".join(f"{int(manifest['data'][name]):,} {name}" for name in ("users", "items", "interactions"))
        self.data = f"{self.names['dataset']}: {size}"
        self.warnings = [str(warning) for warning in manifest["warnings"]]

        self.ratio = float(config["noise"].get("ratio", 0))
        self.noise = noise_of(config) if self.ratio > 0 else {}  # the operator without ratio and seed; empty: clean
        self.noise_setting = digest(self.noise) if self.noise else ""
        self.noise_sha256 = str(manifest["noise"]["noise_sha256"]) if self.noise else ""  # of the noisy training set
        self.noise_seed = int(config["noise"].get("seed", self.seed)) if self.noise else 0
        self.draw = self.seed, self.noise_seed  # runs of one setting at one ratio differ in nothing else
        self.settings = settings_of(config, self.trained)  # what decides the result, flat, without seed and noise
        self.setting = setting_hash(self.settings, manifest["data_sha256"])

        user, target, better, equal = ranks_of(path)
        if len(user) != manifest["test_questions"]:
            raise ValueError(f"ranks_test.npz has {len(user)} users, manifest.json {manifest['test_questions']}")
        evaluation = config["eval"]
        names, ties = evaluation.get("metrics", DEFAULT), evaluation["ties"]
        for name, value in summarise(better, equal, evaluation["cutoffs"], ties, names).items():
            if not abs(self.test[name] - value) < 1e-6:
                raise ValueError(f"metrics.json has {name} {self.test[name]}, its ranks give {value:.6f}")
        better, equal = settle_ties(better, equal, ties)
        self.values = {name: per_user(name, better, equal) for name in metrics if name in self.test}  # users ascending
        self.protocol = {  # runs that differ in it are not comparable
            "data_sha256": str(manifest["data_sha256"]),
            **{f"dataset.{key}": config["dataset"].get(key) or None for key in FILTERS},
            "split": {key: value for key, value in config["split"].items() if key != "_target_"},
            **{key: manifest["protocol"][key] for key in ("cutoffs", "mask_history", "ties")},
            "users": hashlib.sha256(user.tobytes() + target.tobytes()).hexdigest(),
        }
        self.history = read_history(path / "history.jsonl") if self.trained else {}
        # [T] or [T, T], newest item first
        self.position_profile = {name: values.astype(float) for name, values in read_position_profile(path).items()}


def setting_hash(settings: dict[str, object], data_sha256: str) -> str:
    """Return the hash of settings as `settings_of` gives them on the same data."""
    return digest({**settings, "data_sha256": data_sha256})


def settings_of(config: dict, trained: bool) -> dict[str, object]:
    """Return what decides the result of a run except seed, what follows the seed, noise and the path of the data, flat."""
    left_out = {"seed", "dataset.path", "dataset.file"}
    return {
        key: "${seed}" if key.endswith("_seed") and value == config["seed"] else value  # config.yaml is kept resolved
        for key, value in flatten(hashed_values(config)).items()
        if key not in left_out
        and not key.startswith("noise.")
        and (trained or not key.startswith(TRAINING_ONLY) or key.endswith(".name"))
    }


def noise_of(config: dict) -> dict[str, object]:
    """Return the noise group of a configuration without ratio and seed."""
    return {key: value for key, value in config["noise"].items() if key not in ("ratio", "seed", "_target_")}


def find(folders: list[Path]) -> list[Path]:
    """Return the run directories at or below the folders, sorted, each once, without the trials of studies.

    Raises UserError for a missing folder.
    """
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        for path, below, files in os.walk(folder):
            if TRACES & set(files):
                found.setdefault(Path(path).resolve(), Path(path))
            below[:] = [name for name in below if name not in COPIES and not name.startswith(STUDY_FOLDER)]
    return sorted(found.values())


def ranks_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return user, target, better, equal of the test set, users ascending, each [R]; raises ValueError for impossible ranks."""
    with np.load(folder / "ranks_test.npz") as ranks:
        user, target, better, equal = (ranks[name] for name in ("user", "target", "better", "equal"))
    if not user.shape == target.shape == better.shape == equal.shape == (user.size,):
        raise ValueError("ranks_test.npz: its arrays have different lengths")
    if not ((better >= 0).all() and (equal >= 1).all()):
        raise ValueError("ranks_test.npz: a rank is below 1")
    order = np.argsort(user, kind="stable")
    return user[order], target[order], better[order], equal[order]


def read_history(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return the epochs and values of each validation metric and of whatever the method logs in training."""
    logged = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            if name.startswith(("valid/", "train/")):
                epochs, values = logged.setdefault(name, ([], []))
                epochs.append(int(entry["epoch"]))
                values.append(float(value))
    return logged


def read_runs(folders: list[Path], metrics: list[str]) -> tuple[list[Run], list[LeftOut]]:
    """Read all run directories at or below the folders; returns the complete ones, and the others with the reason."""
    runs, left_out = [], []
    for path in find(folders):
        if not (path / DONE).exists():
            left_out.append(LeftOut(path, "not complete: there is no DONE in it"))
        elif ".old-" in path.name:
            left_out.append(LeftOut(path, "set aside when the run was done again"))
        else:
            try:
                runs.append(Run(path, metrics))
            except Exception as error:  # a damaged or foreign directory fails in any way, and must not stop the rest
                left_out.append(LeftOut(path, f"not readable: {type(error).__name__}: {error}"))
    return runs, left_out
