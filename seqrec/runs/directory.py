"""The files of a run directory, and when it may be written."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from seqrec.config import config_hash
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically, write_json
from seqrec.utils.plain_yaml import read_plain

DONE = "DONE"
POSITION_PROFILE = "position_profile.npz"
TRACES = {DONE, "config.yaml", "metrics.json", "run.log"}  # any of them makes a folder a run directory


class RunDir:
    """A run directory; it is complete once it holds DONE, which is written last."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def complete(self) -> bool:
        """Whether the run has ended and everything is written."""
        return (self.path / DONE).exists()

    def refuse_another(self, config: DictConfig) -> None:
        """Raise UserError if the directory holds a run of another configuration."""
        path = self.path / "config.yaml"
        if not path.exists():
            return
        now = config_hash(config)
        try:
            of = config_hash(read_plain(path))
        except (KeyError, TypeError, AttributeError, UserError):
            raise UserError(f"{path} is not that of a run; take another hydra.run.dir") from None
        if of != now:
            raise UserError(
                f"{self.path} holds a run of another configuration (hash {of}, now {now}); "
                "take another hydra.run.dir, or start again with force=true"
            )

    def refuse_other_data(self, sha256: str) -> None:
        """Raise UserError unless `sha256` is that of the run's data; the run must be complete."""
        of = self.manifest()["data_sha256"]
        if of != sha256:
            raise UserError(
                f"{self.path}: the run had data of sha256 {of}, here it is {sha256}; give the run's own data"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory; raises UserError if another process holds the lock."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process is at work in {self.path}; wait for it or end it") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Copy the package's log lines to run.log, with their time."""
        handler = logging.FileHandler(self.path / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger = logging.getLogger("seqrec")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()

    def set_aside(self) -> None:
        """Rename an existing run directory to <dir>.old-N, so that a new run starts from nothing.

        Raises UserError if the directory holds files, but no run.
        """
        # hidden files and logs may be Hydra's, which writes before the job begins
        there = {path.name for path in self.path.iterdir() if path.name[0] != "." and path.suffix != ".log"}
        if not there:
            return
        if not there & TRACES:
            raise UserError(f"force=true: there is no run in {self.path}, but other files; take another hydra.run.dir")
        number = 1
        while (old := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(old)
        self.path.mkdir()

    def metrics(self) -> dict:
        """Read metrics.json."""
        return json.loads((self.path / "metrics.json").read_text())

    def manifest(self) -> dict:
        """Read manifest.json."""
        return json.loads((self.path / "manifest.json").read_text())

    def write_config(self, yaml: str) -> None:
        """Write the resolved configuration."""
        write_atomically(self.path / "config.yaml", yaml.encode())

    def write_history(self, history: list[dict]) -> None:
        """Write history.jsonl, one line per epoch."""
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        write_atomically(self.path / "history.jsonl", lines.encode())

    def write_ranks(self, name: str, ranks, user_ids: np.ndarray, item_ids: np.ndarray) -> None:
        """Write per-user arrays [R]: user, target, better, equal, rank, and the raw ids of user and target."""
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            user=ranks.user,
            target=ranks.target,
            better=ranks.better,
            equal=ranks.equal,
            rank=ranks.rank,
            user_id=user_ids[ranks.user],
            target_id=item_ids[ranks.target],
        )
        write_atomically(self.path / name, stream.getvalue())

    def write_position_profile(self, values: dict[str, np.ndarray]) -> None:
        """Write the method's per-position diagnostics, if there are any."""
        if values:
            stream = io.BytesIO()
            np.savez_compressed(stream, **values)
            write_atomically(self.path / POSITION_PROFILE, stream.getvalue())

    def take(self, other: "RunDir", *names: str) -> None:
        """Copy files of another run directory, those that it has."""
        for name in names:
            if (other.path / name).exists():
                write_atomically(self.path / name, (other.path / name).read_bytes())

    def finish(self, metrics: dict, manifest: dict) -> None:
        """Write metrics.json and manifest.json, then DONE."""
        write_json(self.path / "manifest.json", manifest)
        write_json(self.path / "metrics.json", metrics)
        write_atomically(self.path / DONE, b"")


def read_position_profile(folder: Path) -> dict[str, np.ndarray]:
    """Return the per-position diagnostics of a run; {} for a method without any."""
    for name in (POSITION_PROFILE, "portrait.npz"):  # the second is its name in older runs
        if (folder / name).exists():
            with np.load(folder / name) as values:
                return dict(values)
    return {}


def remove_if_empty(path: Path) -> None:
    """Remove a directory that holds nothing, and the parents that hold nothing else."""
    while path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        path = path.parent
