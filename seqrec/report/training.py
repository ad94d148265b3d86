"""The figures of training: a panel per row and value with a line per run, and maps of pairs of positions."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from seqrec.report.analysis import Report
from seqrec.report.grids import condition
from seqrec.runs.reader import Run

BACK = "items back from the newest"
WIDEST = 20  # newest positions that a map shows


@dataclass
class Panel:
    """Curves of one value in the runs of one row."""

    row: str
    value: str
    x: str = "epoch"
    lines: list[tuple[str, list[float], list[float]]] = field(default_factory=list)  # condition, abscissas, values


@dataclass(frozen=True)
class Map:
    """A value by pairs of positions, of one run."""

    row: str
    value: str
    condition: str
    values: np.ndarray  # [N, N] target x source, oldest first


def condition_of(run: Run, report: Report) -> str:
    """Return the noise a run was trained under, in words."""
    return next((condition(table, run.ratio) for table in report.tables if run.noise == table.noise), "clean")


def conditions(report: Report) -> list[str]:
    """Return all conditions, clean first, ratios ascending."""
    found = {(condition_of(run, report), run.noise.get("name", ""), run.ratio) for run in report.runs}
    return [label for label, *_ in sorted(found, key=lambda entry: entry[1:] + entry[:1])]


def panels(report: Report) -> dict[str, list[Panel]]:
    """Return the panels of each sheet: validation of the tested metric, the methods' own values by epoch and by position."""
    sheets = {"training": {}, "own-values": {}, "positions": {}}

    def add(sheet: str, row, name: str, x: str, run: Run, line: tuple) -> None:
        panel = sheets[sheet].setdefault((row.label, name), Panel(row.label, name, x))
        panel.lines.append((condition_of(run, report), *line))

    for row in report.rows:
        for run in row.runs:
            for name, line in sorted(run.history.items()):
                if name == f"valid/{report.tested}":
                    add("training", row, name.replace("valid/", "validation "), "epoch", run, line)
                elif name.startswith("train/") and name != "train/loss":
                    add("own-values", row, name.removeprefix("train/"), "epoch", run, line)
            for name, values in _profiles(run, axes=1):
                (position,) = np.isfinite(values).nonzero()
                add("positions", row, name, BACK, run, (position.tolist(), values[position].tolist()))
    return {sheet: list(found.values()) for sheet, found in sheets.items()}


def maps(report: Report) -> list[Map]:
    """Return the maps of the first run of each row and condition, clean ones first; pairs that occur in no history are 0."""
    found, order = {}, conditions(report)
    for row in report.rows:
        for run in sorted(row.runs, key=lambda run: order.index(condition_of(run, report))):
            for name, values in _profiles(run, axes=2):
                key = (row.label, name, condition_of(run, report))
                found.setdefault(key, Map(*key, np.nan_to_num(values[:WIDEST, :WIDEST])[::-1, ::-1]))
    return list(found.values())


def map_values(drawn: list[Map]) -> pd.DataFrame:
    """Return the numbers of all maps, a line per pair of positions that is not 0; position 0 is the newest item."""
    rows = []
    for entry in drawn:
        target, source = entry.values.nonzero()
        last = len(entry.values) - 1
        for to, start in zip(target, source, strict=True):
            rows.append((entry.row, entry.value, entry.condition, last - start, last - to, entry.values[to, start]))
    return pd.DataFrame(rows, columns=["row", "value", "condition", "from position", "to position", "mean"])


def _profiles(run: Run, axes: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, values) for name, values in sorted(run.position_profile.items()) if values.ndim == axes)
