"""Which pictures of training are drawn: a panel per row and value with a line per run, and maps of pairs of places."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seqrec.report.analysis import Report, Table
from seqrec.report.collect import Run

BACK = "items back from the newest"
WIDEST = 20  # newest places that a map shows


@dataclass(frozen=True)
class Panel:
    """Curves of one value in the runs of one row."""

    row: str
    value: str
    lines: list[tuple[str, Run, list[float], list[float]]]  # condition, run, abscissas, values
    x: str = "epoch"


@dataclass(frozen=True)
class Map:
    """A value by pairs of places, of one run."""

    row: str
    value: str
    condition: str
    values: np.ndarray  # [N, N] target slot x source slot, oldest first


def condition_of(run: Run, tables: list[Table]) -> str:
    """Return the noise a run was trained under, in words."""
    return next((f"{table.label} {run.ratio:g}" for table in tables if run.noise and run.noise == table.noise), "clean")


def conditions(report: Report) -> list[str]:
    """Return all conditions, clean first, ratios ascending."""
    found = {(condition_of(run, report.tables), run.noise.get("name", ""), run.ratio) for run in report.runs}
    return [label for label, *_ in sorted(found, key=lambda entry: entry[1:] + entry[:1])]


def panels(report: Report) -> dict[str, list[Panel]]:
    """Return the panels of each sheet: validation of the tested metric, the methods' own values by epoch and by place."""
    sheets = {"training": [], "own-values": [], "places": []}
    for row in report.rows:
        for name in sorted(set().union(*(run.history for run in row.runs))):
            if name.startswith("train/") or name == f"valid/{report.tested}":
                lines = [
                    (condition_of(run, report.tables), run, *run.history[name])
                    for run in row.runs
                    if name in run.history
                ]
                sheet = "own-values" if name.startswith("train/") else "training"
                sheets[sheet].append(
                    Panel(row.label, name.removeprefix("train/").replace("valid/", "validation "), lines)
                )
        lines = {}
        for run, name, values in _profiles(row.runs, axes=1):
            (place,) = np.isfinite(values).nonzero()
            line = condition_of(run, report.tables), run, place.tolist(), values[place].tolist()
            lines.setdefault(name, []).append(line)
        sheets["places"] += [Panel(row.label, name, lines[name], BACK) for name in sorted(lines)]
    return sheets


def maps(report: Report) -> list[Map]:
    """Return the maps of the first run of each row and condition, clean ones first; what no history reaches is 0."""
    found, order = {}, conditions(report)
    for row in report.rows:
        runs = sorted(row.runs, key=lambda run: order.index(condition_of(run, report.tables)))
        for run, name, values in _profiles(runs, axes=2):
            condition = condition_of(run, report.tables)
            newest = np.nan_to_num(values[:WIDEST, :WIDEST])[::-1, ::-1]
            found.setdefault((row.label, name, condition), Map(row.label, name, condition, newest))
    return list(found.values())


def _profiles(runs: list[Run], axes: int) -> Iterator[tuple[Run, str, np.ndarray]]:
    for run in runs:
        for name, values in run.position_profile.items():
            if values.ndim == axes:
                yield run, name, values
