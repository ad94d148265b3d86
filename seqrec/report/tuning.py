"""What was spent on the setting of each row: trials, epochs, and how validation rose with them."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd

from seqrec.report.analysis import Report
from seqrec.report.grids import Grid
from seqrec.report.training import Panel, conditions
from seqrec.runs.directory import STUDY_FOLDER
from seqrec.tuning.study import COMPLETE, DIVERGED, PRUNED, STUDY, ended_trials
from seqrec.utils.checkpoint import damage_named
from seqrec.utils.errors import UserError

UNEQUAL = 2  # times as many epochs that trials of one row may have without a warning


@dataclass(frozen=True)
class Searched:
    """A study whose best setting is a row of the report."""

    row: str
    path: Path
    monitor: str
    value: float  # of the best trial, on validation
    trials: list[dict]  # by number

    def curve(self) -> tuple[list[float], list[float]]:
        """Return the number of trials so far, and the best validation metric among those that are complete."""
        numbers, best = [], []
        for trial in self.trials:
            if trial["state"] == COMPLETE:
                best.append(max(trial["value"], *best[-1:]) if best else trial["value"])
                numbers.append(trial["number"] + 1.0)
        return numbers, best


def studies(report: Report) -> list[Searched]:
    """Return the studies beside the runs whose best setting is a row, in the order of the rows; a damaged one is a flag."""
    found = {}
    for row in (row for row in report.rows if not row.foreign):
        for run in row.runs:
            for path in sorted(run.path.resolve().parent.glob(f"{STUDY_FOLDER}*/{STUDY}")):
                try:
                    with damage_named(str(path), "its trials are not counted"):
                        searched = _searched(row.label, path, run.path.resolve().name)
                except UserError as error:
                    report.flags += [] if str(error) in report.flags else [str(error)]
                    continue
                if searched is not None:
                    found.setdefault((row.label, path), searched)
    return list(found.values())


def _searched(label: str, path: Path, run: str) -> Searched | None:
    study = json.loads(path.read_text())
    if run not in study.get("runs", ()):
        return None
    trials = [trial for trial in ended_trials(path.parent) if trial["number"] < study["trials"]]
    return Searched(label, path.parent, study["monitor"], study["best_value"], trials)


def spent(report: Report, searched: list[Searched]) -> dict[str, int]:
    """Return the number of trials behind each trained row of ours."""
    trials = {row.label: 0 for row in report.rows if row.trained and not row.foreign}
    for study in searched:
        trials[study.row] += len(study.trials)
    return trials


def flags(report: Report, searched: list[Searched]) -> list[str]:
    """Return warnings if settings were searched with unequal numbers of trials, or with trials of very unequal length."""
    budgets, found = spent(report, searched), []
    if len(set(budgets.values())) > 1:
        found.append(
            _by_number(
                "Unequal budgets: the settings of the rows were chosen among different numbers of trials.", budgets
            )
        )
    epochs = {study.row: round(fmean(trial["epochs"] for trial in study.trials)) for study in searched}
    if epochs and max(epochs.values()) > UNEQUAL * min(epochs.values()):
        found.append(
            _by_number("Unequal training: the trials of the rows differ in their mean number of epochs.", epochs)
        )
    return found


def _by_number(title: str, numbers: dict[str, int]) -> str:
    lines = [title]
    for number in sorted(set(numbers.values()), reverse=True):
        lines.append(f"{number}: {'; '.join(label for label, own in numbers.items() if own == number)}")
    return "\n".join(lines)


def grid(searched: list[Searched]) -> Grid:
    """Return a line per study: its trials by how they ended, its epochs, and the validation metric that it found."""
    lines = []
    for study in searched:
        states = [trial["state"] for trial in study.trials]
        count = {"trials": len(states), "ended early": states.count(PRUNED), "diverged": states.count(DIVERGED)}
        epochs = sum(trial["epochs"] for trial in study.trials)
        first = study.trials[0]["value"]
        figures = {"epochs": epochs, "metric": study.monitor, "as it was": first, "best": study.value}
        lines.append({"row": study.row, **count, **figures, "study": study.path.name})
    return Grid(
        "tuning",
        "What tuning spent",
        "Trials train and validate; the test set was seen by the best setting of each study alone. As it was: validation of the first "
        "trial, which is the setting before the search.",
        pd.DataFrame(lines),
    )


def panels(report: Report, searched: list[Searched]) -> list[Panel]:
    """Return a panel per study: the best validation metric so far against the number of trials."""
    condition = conditions(report)[0]
    return [
        Panel(study.row, f"best validation {study.monitor}", "trials", [(condition, *study.curve())])
        for study in searched
    ]
