"""The interface of a logger, and the loggers of a run together: one that fails ends with a warning, the run goes on."""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from seqrec.utils.errors import UserError
from seqrec.utils.files import write_json
from seqrec.utils.instantiate import make

log = logging.getLogger("seqrec")
TOO_LARGE = ("last.pt",)  # only needed to resume


@dataclass(frozen=True)
class LoggedRun:
    """What loggers are told of a run."""

    directory: Path
    outputs: Path  # the folder of all runs
    name: str  # <dataset>/<noise>/<backbone>-<method>/seed<k>-<hash>
    config: dict[str, object]  # flat

    def artefacts(self) -> list[Path]:
        """Return the files of the run directory that belong to its results."""
        files = (path for path in sorted(self.directory.iterdir()) if path.is_file() and path.name[0] != ".")
        return [path for path in files if path.name not in TOO_LARGE]


class Logger:
    """Base of the loggers; what one does not need it leaves out. Any method may raise: see Loggers.

    `library` is the package that it needs, `extra` the extra of pyproject.toml that brings it.
    """

    library = extra = ""

    def begin(self, run: LoggedRun, identity: str | None) -> str | None:
        """Take over a run that starts or is resumed.

        A logger that keeps its own record outside the run directory returns the identity of that record. A resumed run gets
        it back, and the epochs that were logged there are not logged again.
        """

    def epochs(self, entries: list[dict]) -> None:
        """Log entries of the history; each once in a process."""

    def finish(self, metrics: dict[str, float], best_epoch: int) -> None:
        """Log the final metrics, like valid/HR@10 and test/HR@10, and the files of the run, which are complete."""

    def close(self) -> None:
        """End, be the run complete or interrupted."""


def make_loggers(nodes: dict[str, dict]) -> dict[str, Logger]:
    """Return the loggers that `logger` of the configuration describes, by name. Raises UserError if a library is missing."""
    loggers = {name: make(node, f"logger.{name}") for name, node in nodes.items()}
    for name, logger in loggers.items():
        if logger.library and find_spec(logger.library) is None:
            raise UserError(f'logger={name} needs {logger.library}: pip install "seqrec[{logger.extra}]"')
    return loggers


class Loggers:
    """The loggers of one run."""

    def __init__(self, loggers: dict[str, Logger], run: LoggedRun):
        self.loggers, self.run = dict(loggers), run
        self.identity: dict[str, str | None] = {}
        self.written = dict.fromkeys(loggers, 0)  # epochs
        for name in list(self.loggers):
            self._try(name, self._begin)

    def write(self, history: list[dict]) -> None:
        """Log the epochs of the history that are new."""
        for name in list(self.loggers):
            entries = [entry for entry in history if entry["epoch"] > self.written[name]]
            if entries:
                self._try(name, self._epochs, entries)

    def finish(self, metrics: dict) -> None:
        """Log what metrics.json has; the run directory must be complete."""
        flat = {f"{part}/{name}": value for part in ("valid", "test") for name, value in metrics[part].items()}
        for name in list(self.loggers):
            self._try(name, lambda name: self.loggers[name].finish(flat, metrics["best_epoch"]))

    def close(self) -> None:
        """End all loggers."""
        for name in list(self.loggers):
            self._try(name, lambda name: self.loggers[name].close())

    def _begin(self, name: str) -> None:
        memory = {}
        with suppress(OSError, ValueError):
            memory = json.loads(self._memory(name).read_text())
        self.identity[name] = self.loggers[name].begin(self.run, memory.get("identity"))
        if self.identity[name] is not None and self.identity[name] == memory.get("identity"):
            self.written[name] = memory["epochs"]
        self._remember(name)

    def _epochs(self, name: str, entries: list[dict]) -> None:
        self.loggers[name].epochs(entries)
        self.written[name] = entries[-1]["epoch"]
        self._remember(name)

    def _remember(self, name: str) -> None:
        if self.identity[name] is not None:
            write_json(self._memory(name), {"identity": self.identity[name], "epochs": self.written[name]})

    def _memory(self, name: str) -> Path:
        return self.run.directory / f"logger-{name}.json"

    def _try(self, name: str, act: Callable[..., None], *arguments) -> None:
        """Call `act`; an error ends this logger alone."""
        try:
            act(name, *arguments)
        except Exception as error:  # whatever a library, a disk or a server comes up with
            reason = (str(error).splitlines() or [""])[0]
            log.warning("warning: logger %s ended, the run goes on: %s: %s", name, type(error).__name__, reason)
            del self.loggers[name]
