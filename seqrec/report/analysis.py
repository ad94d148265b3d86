"""What the report shows of one noise setting: cells, comparisons, robustness and bands."""

from dataclasses import dataclass, field

import numpy as np

from seqrec.report import statistics
from seqrec.report.collect import LeftOut, Run
from seqrec.report.rows import Row, baseline_of, noises_of, rows_of
from seqrec.report.statistics import Comparison, Floor


@dataclass
class Cell:
    """A metric of one row at one ratio: mean and standard deviation over its runs."""

    mean: float
    deviation: float  # NaN for a single run
    runs: int
    best: bool = False
    mark: str = ""  # "better" or "worse" than the baseline
    low: float = np.nan  # ends of the bootstrap band over users
    high: float = np.nan


Place = tuple[str, float, str]  # label of the row, ratio, metric


@dataclass
class Table:
    """All rows under one noise setting."""

    label: str  # of the noise setting, "clean" where no run has noise
    noise: dict
    rows: list[Row]
    ratios: list[float]  # ascending; 0 is the clean runs
    metrics: list[str]
    tested: str  # the metric of the tests
    cells: dict[Place, Cell] = field(default_factory=dict)
    baselines: dict[str, Row] = field(default_factory=dict)  # by the label of the row that is compared with it
    comparisons: dict[tuple[str, float], tuple[Comparison, float]] = field(default_factory=dict)  # with Holm's p

    def means(self, row: Row, metric: str) -> np.ndarray:
        """Return M(r) at the table's ratios, NaN where there is no run, [N]."""
        cells = [self.cells.get((row.label, ratio, metric)) for ratio in self.ratios]
        return np.array([cell.mean if cell else np.nan for cell in cells])


@dataclass
class Report:
    """Everything that is shown."""

    runs: list[Run]
    rows: list[Row]
    tables: list[Table]
    left_out: list[LeftOut]
    flags: list[str]
    floors: dict[tuple[str, str], Floor]  # by label of the row and metric, where there are two clean seeds
    metrics: list[str]
    tested: str
    baseline: str


def table_of(label: str, noise: dict, rows: list[Row], metrics: list[str], tested: str, baseline: str) -> Table:
    """Compute a table; significance marks stand at the tested metric."""
    runs = [run for row in rows for run in row.runs if not run.noise or run.noise == noise]
    ratios = sorted({run.ratio for run in runs})
    rows = [row for row in rows if any(row.at(noise, ratio) for ratio in ratios)]
    table = Table(label, noise, rows, ratios, metrics, tested)
    values = {}
    for row in rows:
        for ratio in ratios:
            for metric in metrics:
                tests = [run.test[metric] for run in row.at(noise, ratio)]
                if tests:
                    place = (row.label, ratio, metric)
                    spread = float(np.std(tests, ddof=1)) if len(tests) > 1 else np.nan
                    table.cells[place] = Cell(float(np.mean(tests)), spread, len(tests))
                    values[place] = row.mean(noise, ratio, metric)
    low, high = statistics.bootstrap(np.stack(list(values.values()), axis=1))
    for place, *band in zip(values, low, high, strict=True):
        table.cells[place].low, table.cells[place].high = map(float, band)
    for ratio in ratios:
        for metric in metrics:
            column = [cell for place, cell in table.cells.items() if place[1:] == (ratio, metric)]
            for cell in column:
                cell.best = cell.mean == max(other.mean for other in column)
    _compare(table, values, baseline)
    return table


def _compare(table: Table, values: dict[Place, np.ndarray], baseline: str) -> None:
    found = {}
    for row in table.rows:
        reference = baseline_of(row, table.rows, baseline)
        if reference is None:
            continue
        table.baselines[row.label] = reference
        for ratio in table.ratios:
            own, other = (values.get((label, ratio, table.tested)) for label in (row.label, reference.label))
            if own is not None and other is not None:
                found[row.label, ratio] = statistics.compare(own, other)
    corrected = statistics.holm(np.array([comparison.p for comparison in found.values()]))
    for (label, ratio), p in zip(found, corrected, strict=True):
        comparison = found[label, ratio]
        table.comparisons[label, ratio] = comparison, float(p)
        if p < statistics.LEVEL:
            cell = table.cells[label, ratio, table.tested]
            cell.mark = "better" if comparison.effect > 0 else "worse"


def analyse(runs: list[Run], left_out: list[LeftOut], metrics: list[str], tested: str, baseline: str) -> Report:
    """Compute everything but the slices."""
    rows = rows_of(runs, baseline)
    noises = noises_of(runs) or {"clean": {}}
    tables = [table_of(label, noise, rows, metrics, tested, baseline) for label, noise in noises.items()]
    flags = [*(flag for table in tables for flag in flags_of(table)), *flags_of_runs(rows, noises, baseline)]
    floors = {}
    for row in rows:
        for metric in metrics:
            floor = statistics.noise_floor([run.values[metric] for run in row.at({}, 0)])
            if floor:
                floors[row.label, metric] = floor
    return Report(runs, rows, tables, left_out, flags, floors, metrics, tested, baseline)


def flags_of(table: Table) -> list[str]:
    """Return sentences on a table that its reader must not miss."""
    flags, won = [], {}
    trained = {row.label: row.trained for row in table.rows}
    if any(trained.values()):
        for (label, ratio, metric), cell in table.cells.items():
            if cell.best and not trained[label]:
                won.setdefault(label, []).append(f"{metric} at {ratio:g}")
    for label, columns in won.items():
        flags.append(f"{table.label}: the untrained baseline {label} is best: {', '.join(columns)}.")
    for row in table.rows:
        clean = {run.draw[0] for run in row.at({}, 0)}
        for ratio in table.ratios[bool(table.ratios[0] == 0) :]:
            seeds = sorted({run.draw[0] for run in row.at(table.noise, ratio)} - clean)
            if seeds:
                flags.append(
                    f"{table.label} {ratio:g}: {row.label} has no clean run of seed {', '.join(map(str, seeds))}."
                )
    return flags


def flags_of_runs(rows: list[Row], noises: dict[str, dict], baseline: str) -> list[str]:
    """Return sentences on the runs that their reader must not miss."""
    flags = []
    if not any(row.is_named(baseline) for row in rows):
        flags.append(f"No row is the baseline {baseline}: there are no tests and no gains.")
    for label, noise in noises.items():
        met = {}
        for row in rows:
            for run in row.runs:
                if run.noise and run.noise == noise:
                    met.setdefault((run.ratio, run.draw[1]), {}).setdefault(run.noise_sha256, run.path)
        for (ratio, seed), paths in met.items():
            if len(paths) > 1:
                flags.append(
                    f"{label} {ratio:g}, noise seed {seed}: the runs met different noise, e.g. "
                    f"{' and '.join(str(path) for path in list(paths.values())[:2])}."
                )
    warnings = {warning for row in rows for run in row.runs for warning in run.manifest["warnings"]}
    return flags + sorted(f"Warning of a run: {warning}" for warning in warnings)


def data_of(run: Run) -> str:
    """Return the name and size of a run's data."""
    data = run.manifest["data"]
    return f"{run.config['dataset']['name']}: {data['users']:,} users, {data['items']:,} items, {data['interactions']:,} interactions"
