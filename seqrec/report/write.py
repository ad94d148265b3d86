"""Write the report's directory."""

from pathlib import Path

from seqrec.report import grids
from seqrec.report.analysis import analyse
from seqrec.report.collect import collect
from seqrec.report.page import GENERATOR, page
from seqrec.report.rows import rows_of
from seqrec.report.slices import slices
from seqrec.report.tables import cells_csv, grid_csv, latex, markdown
from seqrec.report.training import conditions, maps, panels
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically

DEFAULT_BASELINE = "plain"
PAGE = "index.html"
PANELS_A_SHEET = 24
OWN = (
    "table-*",
    "robustness-*",
    "gain-*",
    "significance-*",
    "slices-*",
    "figures/curve-*",
    "figures/training-*",
    "figures/own-*",
    "figures/places-*",
    "figures/maps-*",
)


def report(
    folders: list[Path], output: Path, metrics: list[str], tested: str, baseline: str | None, data_dir: str | None
) -> Path:
    """Write tables, pictures and the page on all complete runs below `folders`; returns the page's path.

    `tested` is the metric of the tests, `baseline` the method or variant they compare with (None: plain, if it is
    there). Raises UserError if there is no run, a metric or the baseline is not in them, matplotlib is missing,
    or `output` holds another page.
    """
    from seqrec.report import figures  # first: without matplotlib nothing need be read

    target = output / PAGE
    if target.exists() and GENERATOR not in target.read_text():
        raise UserError(f"{target} is no report's page, and would be overwritten: take another --output")

    metrics = list(dict.fromkeys([*metrics, tested]))
    runs, left_out = collect(folders, metrics)
    if baseline is not None and not any(row.is_named(baseline) for row in rows_of(runs, baseline)):
        raise UserError(f"--baseline {baseline}: no run of that method or variant is complete and comparable")
    found = analyse(runs, left_out, metrics, tested, baseline or DEFAULT_BASELINE)
    by_slice, note = slices(found, data_dir)
    small = {
        table.label: [
            *([grids.robustness(table, found.floors)] if len(table.ratios) > 1 else []),
            *([grids.gains(table)] if len(table.ratios) > 1 else []),
            grids.significance(table),
        ]
        for table in found.tables
    }
    general = [grids.noise_floor(found), *by_slice, grids.left_out(found)]

    (output / "figures").mkdir(parents=True, exist_ok=True)
    if target.exists():  # an earlier report's file on noise that this one lacks would pass for this one's
        target.unlink()  # first, so that no page stands without its files
        for old in (path for pattern in OWN for path in output.glob(pattern)):
            old.unlink()
    for table in found.tables:
        name = f"table-{grids.slug(table.label)}"
        for ending, text in (("md", markdown(table)), ("csv", cells_csv(table)), ("tex", latex(table))):
            write_atomically(output / f"{name}.{ending}", text.encode())
        if len(table.ratios) > 1:
            for metric in metrics:
                figures.curves(table, metric, output / "figures" / f"{grids.slug(f'curve-{table.label}-{metric}')}")
    for grid in (*(grid for part in small.values() for grid in part), *general):
        write_atomically(output / f"{grid.name}.csv", grid_csv(grid).encode())
    for name, drawn in panels(found).items():
        for first in range(0, len(drawn), PANELS_A_SHEET):
            stem = output / "figures" / f"{name}-{first // PANELS_A_SHEET + 1}"
            figures.training(drawn[first : first + PANELS_A_SHEET], conditions(found), stem)
    drawn = maps(found)
    for first in range(0, len(drawn), PANELS_A_SHEET):
        figures.maps(drawn[first : first + PANELS_A_SHEET], output / "figures" / f"maps-{first // PANELS_A_SHEET + 1}")
    write_atomically(target, page(found, small, general, [note] if note else []).encode())
    return target
