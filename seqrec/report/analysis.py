"""The content of the report for one noise setting: cells, comparisons, robustness and bands."""

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd

from seqrec.report import statistics
from seqrec.report.rows import Row, baseline_of, noises_of, rows_of
from seqrec.runs.reader import LeftOut, Run

KEYS = ["row", "ratio", "metric"]
TESTS = [
    "row",
    "baseline",
    "ratio",
    "mean difference",
    "effect",
    "p",
    "p (Holm)",
    "detectable",
    "users",
    "no difference",
]
FLOOR = ["row", "metric", "pairs", "drop, mean", "drop, largest", "effect"]


@dataclass
class Table:
    """All rows under one noise setting."""

    label: str  # of the noise setting, "clean" where no run has noise
    noise: dict
    rows: list[Row]
    ratios: list[float]  # ascending; 0 is the clean runs
    metrics: list[str]
    tested: str  # the metric of the tests
    cells: (
        pd.DataFrame
    )  # by KEYS: mean, deviation (NaN for one run), runs, best, mark, low and high (bootstrap over users)
    baselines: dict[str, Row] = field(default_factory=dict)  # by the label of the row that is compared with it
    tests: pd.DataFrame = field(default_factory=pd.DataFrame)  # a line per comparison

    def means(self, row: Row, metric: str) -> np.ndarray:
        """Return M(r) at the table's ratios, NaN where there is no run, [N]."""
        return self.cells["mean"].reindex([(row.label, ratio, metric) for ratio in self.ratios]).to_numpy()


@dataclass
class Report:
    """The content of the whole report."""

    runs: list[Run]
    rows: list[Row]
    tables: list[Table]
    left_out: list[LeftOut]
    flags: list[str]
    floors: pd.DataFrame  # by row and metric: difference of two clean seeds, where there are two
    metrics: list[str]
    tested: str
    baseline: str


def table_of(label: str, noise: dict, rows: list[Row], metrics: list[str], tested: str, baseline: str) -> Table:
    """Compute a table; significance marks are at the tested metric."""
    ratios = sorted({run.ratio for row in rows for run in row.runs if not run.noise or run.noise == noise})
    rows = [row for row in rows if any(row.at(noise, ratio) for ratio in ratios)]
    tests, values = [], {}
    for row in rows:
        for ratio in ratios:
            for metric in metrics:
                mean = row.mean(noise, ratio, metric)
                if mean is not None:
                    tests += [(row.label, ratio, metric, run.test[metric]) for run in row.at(noise, ratio)]
                    values[row.label, ratio, metric] = mean
    means = pd.DataFrame(tests, columns=[*KEYS, "test"]).groupby(KEYS, sort=False).test
    cells = means.agg(mean="mean", deviation="std", runs="count")
    cells["best"] = cells["mean"] == cells["mean"].groupby(["ratio", "metric"]).transform("max")
    cells["mark"] = ""
    cells["low"], cells["high"] = statistics.bootstrap(np.stack(list(values.values()), axis=1))
    table = Table(label, noise, rows, ratios, metrics, tested, cells)
    _compare(table, values, baseline)
    return table


def _compare(table: Table, values: dict[tuple, np.ndarray], baseline: str) -> None:
    found = []
    for row in table.rows:
        reference = baseline_of(row, table.rows, baseline)
        if reference is not None:
            table.baselines[row.label] = reference
        ours = [other for other in table.rows if row.foreign and not other.foreign and other is not reference]
        for other, ratio in product([reference, *ours] if reference else ours, table.ratios):
            pair = [values.get((label, ratio, table.tested)) for label in (row.label, other.label)]
            if pair[0] is not None and pair[1] is not None:
                names = {"row": row.label, "baseline": other.label, "ratio": ratio}
                found.append(names | statistics.compare(*pair))
    table.tests = pd.DataFrame(found, columns=TESTS)
    table.tests["p (Holm)"] = statistics.holm(table.tests["p"].to_numpy(float))
    for test in table.tests[table.tests["p (Holm)"] < statistics.LEVEL].to_dict("records"):
        if test["baseline"] != getattr(table.baselines.get(test["row"]), "label", None):
            continue
        mark = "better" if test["effect"] > 0 else "worse"
        table.cells.loc[(test["row"], test["ratio"], table.tested), "mark"] = mark


def analyse(runs: list[Run], left_out: list[LeftOut], metrics: list[str], tested: str, baseline: str) -> Report:
    """Compute everything but the slices."""
    rows = rows_of(runs, baseline)
    noises = noises_of(runs) or {"clean": {}}
    tables = [table_of(label, noise, rows, metrics, tested, baseline) for label, noise in noises.items()]
    flags = [*(flag for table in tables for flag in flags_of(table)), *flags_of_runs(rows, noises, baseline)]
    floors = []
    for row in rows:
        for metric in metrics:
            if floor := statistics.noise_floor([run.values[metric] for run in row.at({}, 0) if metric in run.values]):
                floors.append({"row": row.label, "metric": metric, **floor})
    floor = pd.DataFrame(floors, columns=FLOOR).set_index(["row", "metric"])
    return Report(runs, rows, tables, left_out, flags, floor, metrics, tested, baseline)


def flags_of(table: Table) -> list[str]:
    """Return warnings about a table."""
    flags = []
    trained = {row.label: row.trained for row in table.rows}
    if any(trained.values()):
        best = table.cells[table.cells.best].reset_index()
        for label, cells in best[~best.row.map(trained).astype(bool)].groupby("row", sort=False):
            columns = ", ".join(
                f"{metric} at {ratio:g}" for ratio, metric in zip(cells.ratio, cells.metric, strict=True)
            )
            flags.append(f"{table.label}: the untrained baseline {label} is best: {columns}.")
    for row in table.rows:
        clean = {run.seed for run in row.at({}, 0)}
        for ratio in table.ratios[bool(table.ratios[0] == 0) :]:
            noisy = {run.seed for run in row.at(table.noise, ratio)}
            for seeds, missing in ((noisy - clean, "clean run"), (clean - noisy if noisy else (), "run")):
                if seeds:
                    listed = ", ".join(map(str, sorted(seeds)))
                    flags.append(f"{table.label} {ratio:g}: {row.label} has no {missing} of seed {listed}.")
    return flags


def flags_of_runs(rows: list[Row], noises: dict[str, dict], baseline: str) -> list[str]:
    """Return warnings about the runs."""
    flags = []
    if not any(row.is_named(baseline) for row in rows):
        flags.append(f"No row is the baseline {baseline}: there are no tests and no gains.")
    for label, noise in noises.items():
        drawn = {}
        for run in (run for row in rows for run in row.runs if run.noise and run.noise == noise):
            drawn.setdefault((run.ratio, run.noise_seed), {}).setdefault(run.noise_sha256, run.path)
        for (ratio, seed), paths in drawn.items():
            if len(paths) > 1:
                flags.append(
                    f"{label} {ratio:g}, noise seed {seed}: the runs were trained on different noise, e.g. "
                    f"{' and '.join(str(path) for path in list(paths.values())[:2])}."
                )
    warnings = {warning for row in rows for run in row.runs for warning in run.warnings}
    return flags + sorted(f"Warning of a run: {warning}" for warning in warnings)
