"""The jobs of a sweep: each in a process of its own, with a record, and one table of all of them at the end.

A record is a small file in a folder that all jobs of a sweep share. Whatever launcher starts the jobs, and whatever becomes of its
workers, the records tell which jobs have ended, and how.
"""

import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from seqrec.cli import explain, set_up_logging
from seqrec.runs.summary import sweep_table
from seqrec.tuning.study import read_trial
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_json
from seqrec.utils.orphans import end_with_parent

log = logging.getLogger("seqrec")
VARIABLE = "SEQREC_SWEEP"  # of the environment: the folder of the records
MOST_STARTS = 3  # of a job whose worker dies with it


class Announcement(Callback):
    """Hydra's callback that tells all jobs of a sweep, through the environment, where their records are."""

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        """Choose the folder, unless the sweep goes on after its launcher failed."""
        name = f".sweep-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        os.environ.setdefault(VARIABLE, str(Path(config.hydra.sweep.dir).absolute() / name))


def run(entry: Callable[[], None]) -> list[dict]:
    """Call Hydra's entry point, and print a table if it was a sweep; returns the records of the jobs.

    Where a worker's death takes others with it, as in joblib, or ends the launcher, it is called again for the jobs that
    are left. Raises UserError for a sweep over nothing.
    """
    os.environ.pop(VARIABLE, None)
    started, records = 0, []
    try:
        while True:
            try:
                entry()
                break
            except Exception:
                now = sum(record["starts"] for record in _read_all())
                if now == started:  # nothing that another attempt would change
                    raise
                started = now
    finally:
        records = _read_all()
        if records:
            set_up_logging()
            log.info("\n%s", sweep_table(records))
            shutil.rmtree(os.environ[VARIABLE], ignore_errors=True)
    if VARIABLE in os.environ and not records:
        raise UserError("a sweep without a run: a range on the command line, or tune.trials, has no value")
    return records


def refuse_failures(records: list[dict]) -> None:
    """Raise UserError if a job of the sweep is not complete."""
    failed = [record for record in records if record["status"] in ("failed", "killed")]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(records)} runs did not end well, the same command does them again; "
            f"the first: {failed[0]['error']}"
        )


def in_own_process(job: Callable[[], float | None], config: DictConfig) -> float:
    """Run a job of a sweep in a child process, so that its death ends nothing else, and keep its record.

    Returns what the job returns, NaN for one that failed or was killed: Hydra would end the sweep at an exception.
    """
    end_with_parent()
    if VARIABLE not in os.environ:
        raise UserError(f"{VARIABLE} is not set: the launcher has to hand its environment to the jobs")
    hydra_config = HydraConfig.get()
    folder, path = (
        Path(hydra_config.runtime.output_dir),
        Path(os.environ[VARIABLE]) / f"{hydra_config.job.num:05d}.json",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # held by the job of an earlier attempt as long as it goes on
        record = _read(path)
        if "status" not in record and record.get("starts", 0) == MOST_STARTS:
            record |= {"status": "killed", "error": f"its worker process was killed {MOST_STARTS} times"}
            write_json(path, record)
        if "status" in record:
            return record.get("value", math.nan)
        overrides, starts = list(hydra_config.overrides.task), record.get("starts", 0) + 1
        record = {"overrides": overrides, "directory": str(folder), "monitor": config.trainer.monitor, "starts": starts}
        write_json(path, record)
        process = multiprocessing.get_context("fork").Process(target=_child, args=(job, path, record))
        process.start()
        try:
            process.join()
        finally:
            process.kill()
        if "status" not in _read(path):
            write_json(path, record | {"status": "killed", "error": _cause(process.exitcode)})
        return _read(path).get("value", math.nan)


def _child(job: Callable[[], float | None], path: Path, record: dict) -> None:
    killed = {"status": "killed", "error": "its worker process was killed"}
    end_with_parent(0.2, lambda: write_json(path, record | killed))
    try:
        value = job()
        ending = {"status": "complete"} | ({} if value is None else {"value": value})
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        reason = explain(error, record["overrides"])
        if reason is None or "SEQREC_SHORT_ERROR" not in os.environ:
            traceback.print_exc()
        ending = {"status": "failed", "error": " ".join((reason or f"{type(error).__name__}: {error}").split())}
        log.error("failed: %s\n  %s", record["directory"], ending["error"])
    write_json(path, record | ending)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    hint = ", as when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-code).name}{hint}"


def _read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def _read_all() -> list[dict]:
    """Return the records in the order of the jobs; one without an end was interrupted."""
    folder = os.environ.get(VARIABLE)
    interrupted = {"status": "killed", "error": "interrupted"}
    records = [interrupted | _read(path) for path in sorted(Path(folder).glob("[0-9]*.json"))] if folder else []
    return [record | {"state": read_trial(Path(record["directory"])).get("state", "complete")} for record in records]
