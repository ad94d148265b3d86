"""From the trials of a study to the commands that run its best setting on all seeds, test included."""

import json
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

from seqrec.config import config_hash
from seqrec.runs.directory import STUDY_FOLDER, RunDir
from seqrec.tuning.study import COMPLETE, STUDY, ended_trials, flat
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_json

log = logging.getLogger("seqrec")


@dataclass
class Choice:
    """The best setting of a study, and the arguments of train.py that run it."""

    study: Path
    arguments: list[str]

    def keep(self, directories: list[str]) -> None:
        """Write the names of the runs of the best setting into study.json, by which reports find them."""
        path = self.study / STUDY
        write_json(path, json.loads(path.read_text()) | {"runs": sorted(Path(folder).name for folder in directories)})


def choices(records: list[dict], arguments: list[str]) -> list[Choice]:
    """Return the best setting of each study that the records of a sweep belong to; `arguments` are those of the sweep.

    Raises UserError for a study without a complete trial.
    """
    studies = {Path(record["directory"]).parent: record["overrides"] for record in records}
    hydras = [] if {"-m", "--multirun"} & set(arguments) else ["-m"]
    hydras += [word for word in arguments if "=" not in word or word.startswith(("hydra.", "hydra/"))]
    return [
        choose(study, hydras, overrides) for study, overrides in studies.items() if study.name.startswith(STUDY_FOLDER)
    ]


def choose(study: Path, hydras: list[str], overrides: list[str]) -> Choice:
    """Choose the best trial, the first of equally good ones, and give its training to the run with the same seed."""
    searched = json.loads((study / STUDY).read_text())
    trials = [trial for trial in ended_trials(study) if trial["number"] < searched["trials"]]
    best = max((t for t in trials if t["state"] == COMPLETE), key=lambda t: (t["value"], -t["number"]), default=None)
    if best is None:
        raise UserError(f"{study}: no trial is complete; widen tune.space, or raise tune.trials")
    folder = RunDir(study / f"trial-{best['number']:03d}")
    values = flat(searched["space"], best["values"]) if best["number"] else {}
    given = {
        "method": searched["method"],
        "seed": ",".join(map(str, searched["seeds"])),
        **{key: json.dumps(value) for key, value in values.items()},
    }
    keys = {word: word.partition("=")[0].lstrip("+") for word in overrides}
    kept = [word for word, key in keys.items() if key not in given and key.partition(".")[0] != "tune"]
    arguments = [*hydras, *kept, *(f"{key}={value}" for key, value in given.items())]
    write_json(study / STUDY, searched | {"best": best["number"], "best_value": best["value"], "arguments": arguments})
    log.info(
        "the best of %d trials is trial %d, %s %.4f; now: python train.py %s",
        *(len(trials), best["number"], searched["monitor"], best["value"], shlex.join(arguments)),
    )
    config = folder.config()
    final = RunDir(study.parent / f"seed{config.seed}-{config_hash(config)}")
    if not final.path.exists():
        final.path.mkdir()
        final.take(folder, "best.pt", "history.jsonl", "last.pt")  # from the last of which it goes on to the test
    return Choice(study, arguments)
