"""The files of a run directory, and when it may be written."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from seqrec.config import config_hash, refuse_incomplete, training_hash, with_younger_keys
from seqrec.utils.addresses import current_address
from seqrec.utils.errors import UserError
from seqrec.utils.files import remove_leftovers, write_atomically, write_json
from seqrec.utils.plain_yaml import read_plain

log = logging.getLogger("seqrec")

DONE = "DONE"
STUDY_FOLDER = "study-"  # begins the name of a folder of trials
POSITION_PROFILE = "position_profile.npz"
FROM_FILE = "seqrec.data.source.FileDataset"
WRITTEN = (  # by the run itself
    *("config.yaml", "manifest.json", "history.jsonl", "best.pt", "last.pt"),
    *("ranks_test.npz", POSITION_PROFILE, "metrics.json", DONE),
)
TRACES = {DONE, "config.yaml", "metrics.json", "run.log"}  # any of them makes a folder a run directory


class RunDir:
    """A run directory; it is complete once it holds DONE, which is written last."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def resumable(self) -> bool:
        """Whether there is a training state to go on from."""
        return (self.path / "last.pt").exists()

    @property
    def complete(self) -> bool:
        """Whether the run has ended and everything is written."""
        return (self.path / DONE).exists()

    def twin(self, config: DictConfig, data_sha256: str) -> "RunDir | None":
        """Return a complete run beside this one with the same data and training, and its weights; its evaluation may differ."""
        for path in sorted(self.path.parent.glob(f"seed{config.seed}-????????")):
            other = RunDir(path)
            if other.complete and path != self.path and (path / "best.pt").exists():
                with suppress(UserError):  # it is damaged
                    same_training = training_hash(other.config()) == training_hash(config)
                    if same_training and other.manifest()["data_sha256"] == data_sha256:
                        return other
        return None

    def refuse_another(self, config: DictConfig) -> None:
        """Raise UserError if the directory holds a run of another configuration."""
        if not (self.path / "config.yaml").exists():
            return
        now, of = config_hash(config), config_hash(self.config())
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
                f"{self.path}: the run had data of sha256 {of}, here it is {sha256}; "
                "give the run's own data, or train on these with force=true"
            )

    def refuse_changed_data(self, dataset: dict, data_dir: str) -> None:
        """Raise UserError if the raw file has changed since the run, which must be complete; a missing file may be missing."""
        if current_address(dataset["_target_"]) != FROM_FILE:
            return
        from seqrec.data.raw import stamp
        from seqrec.data.source import FileDataset

        file = FileDataset(**{key: value for key, value in dataset.items() if key != "_target_"}).find(data_dir)
        if file is not None and stamp(file) != self.manifest().get("data_stamp"):
            self.refuse_other_data(file.sha256())

    @contextmanager
    def lock(self, patience: float | None = 0) -> Iterator[None]:
        """Lock the directory, and clear away what a killed process left.

        Raises UserError if another process still holds the lock after `patience` seconds; None waits as long as it takes.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=patience or 0)
        except Timeout:
            if patience is not None:
                raise UserError(f"another process is at work in {self.path}; wait for it or end it") from None
            log.info("waiting for the process that is at work in %s", self.path)
            lock.acquire()
        try:
            remove_leftovers(self.path, *WRITTEN)
            yield
        finally:
            lock.release()

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Copy the package's log lines to run.log, with their time."""
        handler = logging.FileHandler(self.path / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
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

    def config(self) -> DictConfig:
        """Read config.yaml. Raises UserError if it is not that of a run."""
        path = self.path / "config.yaml"
        try:
            config = OmegaConf.create(read_plain(path))
            refuse_incomplete(with_younger_keys(config.copy()))
            config_hash(config)
        except Exception as error:  # a damaged or foreign file fails in any way
            detail = str(error).removeprefix(f"{path}: ") if isinstance(error, UserError) else type(error).__name__
            raise UserError(
                f"{path} is damaged, or not that of a run ({detail}); to train there, start again with force=true"
            ) from None
        return config

    def metrics(self) -> dict:
        """Read metrics.json of a complete run. Raises UserError if it is damaged."""

        def good(values: dict) -> bool:
            valid, test = values["valid"], values["test"]
            numbers = [values["best_epoch"], *valid.values(), *test.values()]
            return valid.keys() <= test.keys() and all(isinstance(number, int | float) for number in numbers)

        return self._read("metrics.json", good)

    def manifest(self) -> dict:
        """Read manifest.json. Raises UserError if it is damaged."""
        return self._read("manifest.json", lambda values: {"config_hash", "data_sha256"} <= values.keys())

    def ranks(self) -> dict[str, np.ndarray]:
        """Read ranks_test.npz. Raises UserError if it is damaged."""
        path = self.path / "ranks_test.npz"
        try:
            with np.load(path) as ranks:
                return dict(ranks)
        except Exception as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}); do the run again with force=true") from None

    def _read(self, name: str, good: Callable[[dict], bool]) -> dict:
        """Read a JSON file; raises UserError unless it is `good` and has the hash in DONE, which earlier versions left empty."""
        path = self.path / name
        try:
            content = path.read_bytes()
            values = json.loads(content)
            sums = (self.path / DONE).read_text() if self.complete else ""
            whole = good(values) and (not sums or f"{hashlib.sha256(content).hexdigest()}  {name}\n" in sums)
        except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
            whole = False
        if not whole:
            advice = "do the run again with force=true" if self.complete else "remove it"
            raise UserError(f"{path} is missing, damaged or was changed; {advice}")
        return values

    def begin(self, yaml: str, manifest: dict) -> None:
        """Write the resolved configuration, and what is known of the run when it starts or goes on."""
        write_atomically(self.path / "config.yaml", yaml.encode())
        write_json(self.path / "manifest.json", manifest)

    def write_history(self, history: list[dict]) -> None:
        """Write history.jsonl, one line per epoch."""
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        write_atomically(self.path / "history.jsonl", lines.encode())

    def write_ranks(self, ranks, user_ids: np.ndarray, item_ids: np.ndarray) -> None:
        """Write per-user arrays [R] of the test set: user, target, better, equal, rank, and the raw ids of user and target."""
        values = {name: getattr(ranks, name) for name in ("user", "target", "better", "equal", "rank")}
        values |= {"user_id": user_ids[ranks.user], "target_id": item_ids[ranks.target]}
        write_atomically(self.path / "ranks_test.npz", lambda stream: np.savez_compressed(stream, **values))

    def write_position_profile(self, values: dict[str, np.ndarray]) -> None:
        """Write the method's per-position diagnostics, if there are any."""
        if values:
            write_atomically(self.path / POSITION_PROFILE, lambda stream: np.savez_compressed(stream, **values))

    def take(self, other: "RunDir", *names: str) -> None:
        """Copy files of another run directory, those that it has."""
        for name in names:
            if (other.path / name).exists():
                write_atomically(self.path / name, (other.path / name).read_bytes())

    def finish(self, metrics: dict, manifest: dict) -> None:
        """Write metrics.json and manifest.json, then DONE with their hashes, as sha256sum has them."""
        sums = ""
        for name, values in (("manifest.json", manifest), ("metrics.json", metrics)):
            write_json(self.path / name, values)
            sums += f"{hashlib.sha256((self.path / name).read_bytes()).hexdigest()}  {name}\n"
        write_atomically(self.path / DONE, sums.encode())


def read_position_profile(folder: Path) -> dict[str, np.ndarray]:
    """Return the per-position diagnostics of a run; {} for a method without any."""
    for name in (POSITION_PROFILE, "portrait.npz"):  # the second is its name in older runs
        if (folder / name).exists():
            with np.load(folder / name) as values:
                return dict(values)
    return {}


def remove_if_empty(path: Path) -> None:
    """Remove a directory that holds nothing, and the parents that hold nothing else, up to the working directory."""
    with suppress(OSError):  # of the first that holds something, or that another job of a sweep has removed
        while not path.samefile("."):
            path.rmdir()
            path = path.parent
