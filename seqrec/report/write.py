"""Write the report's directory."""

from pathlib import Path

import numpy as np

from seqrec.evaluation.metrics import per_user
from seqrec.report import figures, grids, tuning
from seqrec.report.analysis import analyse
from seqrec.report.lists import read_lists
from seqrec.report.page import GENERATOR, page
from seqrec.report.rows import comparable, distinct, rows_of
from seqrec.report.slices import slices
from seqrec.report.tables import write_csv
from seqrec.report.training import conditions, map_values, maps, panels
from seqrec.runs.reader import LeftOut, Run, read_runs
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.files import write_atomically

DEFAULT_BASELINE = "plain"
PAGE = "index.html"
PANELS_A_SHEET = 24
OWN = (
    *("table-*", "robustness-*", "gain-*", "significance-*", "slices-*", "tuning.csv", "maps.csv"),
    *(f"figures/{name}-*" for name in ("curve", "training", "own", "search", "positions", "places", "maps")),
)


def collect(folders: list[Path], metrics: list[str]) -> tuple[list[Run], list[LeftOut]]:
    """Return the runs that are comparable, and all other run directories with the reason.

    Raises UserError if no run is left, or a metric is not in them.
    """
    for metric in metrics:
        per_user(metric, np.array([0]), np.array([1]))  # raises for a metric without a value per user
    runs, unusable = read_runs(folders, metrics)
    runs, incomparable = comparable(runs)
    runs, repeated = distinct(runs)
    left_out = sorted(unusable + incomparable + repeated, key=lambda entry: entry.path)
    if not runs:
        where = ", ".join(map(str, folders))
        first = f"; the first of {len(left_out)} left out: {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"no complete run directory in {where}{first}")
    for metric in metrics:
        if metric not in runs[0].test:
            raise UserError(f"metric {metric}: the runs have {', '.join(runs[0].test)}{nearest(metric, runs[0].test)}")
    return runs, left_out


def report(
    folders: list[Path],
    output: Path,
    metrics: list[str],
    tested: str,
    baseline: str | None,
    data_dir: str | None,
    lists: list[str] = (),
) -> Path:
    """Write tables, pictures and the page on all complete runs below `folders`; returns the page's path.

    `tested` is the metric of the tests, `baseline` the method or variant they compare with (None: plain, if there is
    one), `lists` are recommendations of other systems. Raises UserError if there is no run, a metric or the baseline is
    not in them, lists do not fit them, matplotlib is missing, or `output` holds another page.
    """
    target = output / PAGE
    if target.exists() and GENERATOR not in target.read_text():
        raise UserError(f"{target} is no report's page, and would be overwritten: take another --output")

    metrics = list(dict.fromkeys([*metrics, tested]))
    runs, left_out = collect(folders, metrics)
    if lists:
        runs += read_lists(lists, runs, metrics, data_dir)
    if baseline is not None and not any(row.is_named(baseline) for row in rows_of(runs, baseline)):
        raise UserError(f"--baseline {baseline}: no run of that method or variant is complete and comparable")
    found = analyse(runs, left_out, metrics, tested, baseline or DEFAULT_BASELINE)
    searched = tuning.studies(found)
    found.flags += tuning.flags(found, searched)
    by_slice, note = slices(found, data_dir)
    small = {
        table.label: [
            *([grids.robustness(table, found.floors), grids.gains(table)] if len(table.ratios) > 1 else []),
            grids.significance(table),
        ]
        for table in found.tables
    }
    general = [
        grids.noise_floor(found),
        *by_slice,
        *([tuning.grid(searched)] if searched else []),
        grids.left_out(found),
    ]

    (output / "figures").mkdir(parents=True, exist_ok=True)
    if target.exists():  # files of an earlier report on other noise would look like this one's
        target.unlink()  # first, so that no page exists without its files
        for old in (path for pattern in OWN for path in output.glob(pattern)):
            old.unlink()
    curves = {}
    for table in found.tables:
        stem = output / f"table-{grids.slug(table.label)}"
        write_csv(stem.with_name(stem.name + ".csv"), grids.cells(table))
        for ending, text in (("md", grids.as_markdown(table)), ("tex", grids.as_latex(table))):
            write_atomically(stem.with_name(f"{stem.name}.{ending}"), text.encode())
        curves[table.label] = [
            figures.curves(table, metric, output / "figures" / grids.slug(f"curve-{table.label}-{metric}"))
            for metric in (metrics if len(table.ratios) > 1 else ())
        ]
    for grid in (*(grid for part in small.values() for grid in part), *general):
        write_csv(output / f"{grid.name}.csv", grid.frame)
    drawn, names = {**panels(found), "search": tuning.panels(found, searched), "maps": maps(found)}, conditions(found)
    sheets = {name: [] for name in drawn}
    for name, entries in drawn.items():
        for first in range(0, len(entries), PANELS_A_SHEET):
            part = entries[first : first + PANELS_A_SHEET]
            stem = output / "figures" / f"{name}-{first // PANELS_A_SHEET + 1}"
            sheets[name].append(figures.maps(part, stem) if name == "maps" else figures.training(part, names, stem))
    if drawn["maps"]:
        write_csv(output / "maps.csv", map_values(drawn["maps"]))
    write_atomically(target, page(found, small, general, curves, sheets, [note] if note else []).encode())
    return target
