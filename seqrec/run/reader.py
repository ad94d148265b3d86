"""Read finished run directories; what cannot be used is named with its reason and never averaged in."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from seqrec.config import digest, flatten, hashed_values
from seqrec.evaluation.metrics import DEFAULT, per_user, settle_ties, summarise
from seqrec.run.directory import DONE, PORTRAIT, TRACES
from seqrec.utils.errors import UserError

TRAINING_ONLY = ("trainer.", "backbone.", "loss.", "dim")  # settings that mean nothing to an untrained method
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LeftOut:
    """A run directory that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """One complete run directory; whatever is computed of it later has been read and checked here."""

    path: Path
    config: dict
    manifest: dict
    names: dict[str, str]  # of dataset, method, backbone and loss
    variant: str  # "" without one
    seed: int
    trained: bool
    prefixes: bool
    settings: dict[str, object]  # what decides the result, flat, without seed and noise
    setting: str  # hash that runs share which differ in seed and noise alone
    noise: dict[str, object]  # the operator and its settings without ratio and seed; empty: clean
    noise_setting: str  # hash of it, "" for a clean run
    ratio: float
    noise_seed: int
    noise_sha256: str  # of the noisy training set, "" without noise
    protocol: dict[str, object]  # runs that differ in it are not comparable
    data: str  # name and size
    warnings: list[str]
    valid: dict[str, float]  # metrics of the validation set
    test: dict[str, float]
    best_epoch: int  # 0 for an untrained method
    values: dict[str, np.ndarray]  # test metrics per user, users ascending, [R]
    history: dict[str, tuple[list[int], list[float]]]  # logged value -> epochs and values
    profile: dict[str, np.ndarray]  # per-position diagnostics, [T] or [T, T], newest item first

    @property
    def draw(self) -> tuple[int, int]:
        """Seeds of the model and of the noise; runs of one setting at one ratio differ in nothing else."""
        return self.seed, self.noise_seed


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
    """Return the run directories at or below the folders, sorted, each once; raises UserError for a missing folder."""
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        for path, _, files in os.walk(folder):
            if TRACES & set(files):
                found.setdefault(Path(path).resolve(), Path(path))
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


def read(folder: Path, metrics: list[str]) -> Run:
    """Read a complete run directory and those of `metrics` per user that it has; raises whatever a damaged file leads to."""
    config = yaml.load((folder / "config.yaml").read_text(), Loader)
    manifest = json.loads((folder / "manifest.json").read_text())
    written = json.loads((folder / "metrics.json").read_text())
    valid, test = ({name: float(value) for name, value in written[split].items()} for split in ("valid", "test"))
    user, target, better, equal = ranks_of(folder)
    if len(user) != manifest["test_questions"]:
        raise ValueError(f"ranks_test.npz has {len(user)} users, manifest.json {manifest['test_questions']}")
    cutoffs, ties = config["eval"]["cutoffs"], config["eval"]["ties"]
    for name, value in summarise(better, equal, cutoffs, ties, config["eval"].get("metrics", DEFAULT)).items():
        if not abs(test[name] - value) < 1e-6:
            raise ValueError(f"metrics.json has {name} {test[name]}, its ranks give {value:.6f}")
    better, equal = settle_ties(better, equal, ties)
    ratio, trained = float(config["noise"].get("ratio", 0)), int(manifest["epochs"]) > 0
    names = {group: str(config[group]["name"]) for group in ("dataset", "method", "backbone", "loss")}
    size = {name: int(manifest["data"][name]) for name in ("users", "items", "interactions")}
    seed = int(config["seed"])
    settings, noise = settings_of(config, trained), noise_of(config) if ratio > 0 else {}
    return Run(
        path=folder,
        config=config,
        manifest=manifest,
        names=names,
        variant=str(config.get("variant") or ""),
        seed=seed,
        trained=trained,
        prefixes=bool(manifest["protocol"]["prefixes"]),
        settings=settings,
        setting=setting_hash(settings, manifest["data_sha256"]),
        noise=noise,
        noise_setting=digest(noise) if noise else "",
        ratio=ratio,
        noise_seed=int(config["noise"].get("seed", seed)) if ratio > 0 else 0,
        noise_sha256=str(manifest["noise"]["noise_sha256"]) if ratio > 0 else "",
        protocol={
            "data_sha256": str(manifest["data_sha256"]),
            **{f"dataset.{key}": config["dataset"].get(key) for key in ("min_rating", "k_core")},
            "split": {key: value for key, value in config["split"].items() if key != "_target_"},
            **{key: manifest["protocol"][key] for key in ("cutoffs", "mask_history", "ties")},
            "users": hashlib.sha256(user.tobytes() + target.tobytes()).hexdigest(),
        },
        data=f"{names['dataset']}: " + ", ".join(f"{count:,} {name}" for name, count in size.items()),
        warnings=[str(warning) for warning in manifest["warnings"]],
        valid=valid,
        test=test,
        best_epoch=int(written["best_epoch"]),
        values={name: per_user(name, better, equal) for name in metrics if name in test},
        history=read_history(folder / "history.jsonl") if trained else {},
        profile=read_profile(folder / PORTRAIT),
    )


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


def read_profile(path: Path) -> dict[str, np.ndarray]:
    """Return the diagnostics by position in the history, none for a method without such values."""
    if not path.exists():
        return {}
    with np.load(path) as values:
        return {name: values[name].astype(float) for name in values}


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
                runs.append(read(path, metrics))
            except Exception as error:  # a damaged or foreign directory fails in any way, and must not stop the rest
                left_out.append(LeftOut(path, f"not readable: {type(error).__name__}: {error}"))
    return runs, left_out
