"""Which curves of training are drawn: one panel per row and logged value, one line per run."""

from dataclasses import dataclass

from seqrec.report.analysis import Report, Table
from seqrec.report.collect import Run


@dataclass(frozen=True)
class Panel:
    """Curves of one logged value in the runs of one row."""

    row: str
    value: str
    lines: list[tuple[str, Run, list[int], list[float]]]  # condition, run, epochs, values


def condition_of(run: Run, tables: list[Table]) -> str:
    """Return the noise a run was trained under, in words."""
    return next((f"{table.label} {run.ratio:g}" for table in tables if run.noise and run.noise == table.noise), "clean")


def conditions(report: Report) -> list[str]:
    """Return all conditions, clean first, ratios ascending."""
    found = {(condition_of(run, report.tables), run.noise.get("name", ""), run.ratio) for run in report.runs}
    return [label for label, *_ in sorted(found, key=lambda entry: entry[1:] + entry[:1])]


def panels(report: Report) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of the tested metric on validation, and those of the methods' own values."""
    validation, own = [], []
    for row in report.rows:
        names = sorted(set().union(*(run.history for run in row.runs)))
        for name in names:
            if name.startswith("train/") or name == f"valid/{report.tested}":
                lines = [
                    (condition_of(run, report.tables), run, *run.history[name])
                    for run in row.runs
                    if name in run.history
                ]
                part = own if name.startswith("train/") else validation
                part.append(Panel(row.label, name.removeprefix("train/").replace("valid/", "validation "), lines))
    return validation, own
