"""The report's tables: the main one in its formats, and the smaller ones, which tables.py and page.py both render."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqrec.report import statistics
from seqrec.report.analysis import KEYS, Report, Table
from seqrec.report.tables import escaped, latex, markdown

MARKS = {"better": "↑", "worse": "↓", "": ""}
LATEX_MARKS = {"better": r"$^{\uparrow}$", "worse": r"$^{\downarrow}$", "": ""}
NOTHING = "–"


@dataclass(frozen=True)
class Grid:
    """A smaller table; `name` is its file's, `note` explains how to read it."""

    name: str
    title: str
    note: str
    frame: pd.DataFrame


def slug(label: str) -> str:
    """Return a label as part of a file name."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in label)


def names_of(table: Table) -> pd.DataFrame:
    """Return the columns that name a table's rows, by their label; loss and prefixes are always among them."""
    columns = ["method", "backbone", "loss", "prefixes", "variant", "settings"]
    values = [
        (row.method, row.backbone, row.loss, "yes" if row.prefixes else "no", row.variant, row.differs)
        for row in table.rows
    ]
    frame = pd.DataFrame(values, columns=columns, index=pd.Index([row.label for row in table.rows], name="row"))
    return frame[[name for slot, name in enumerate(columns) if slot < 4 or frame[name].any()]]


def condition(table: Table, ratio: float) -> str:
    """Return a ratio of the table's noise in words."""
    return f"{table.label} {ratio:g}" if ratio else "clean"


def spread(cell: pd.Series) -> str:
    """Return a cell's standard deviation as it is shown."""
    return NOTHING if np.isnan(cell.deviation) else f"{cell.deviation:.4f}"


def legend(table: Table) -> str:
    """Return the explanation of the cells."""
    return (
        f"Test set; mean ± standard deviation over (runs); bold: best of its column; ↑ ↓: {table.tested} per user better, worse "
        "than the baseline's (Wilcoxon, Holm-corrected p < 0.05)."
    )


def shown(table: Table, form) -> pd.DataFrame:
    """Return the cells in a form (a function of a cell, or of None where there is no run), with rows and (ratio, metric) as they are."""
    columns = [(ratio, metric) for ratio in table.ratios for metric in table.metrics]
    cells = dict(table.cells.iterrows())
    values = [[form(cells.get((row.label, *column))) for column in columns] for row in table.rows]
    return pd.DataFrame(values, columns=pd.MultiIndex.from_tuples(columns), index=names_of(table).index)


def as_markdown(table: Table) -> str:
    """Return the main table as Markdown."""

    def cell(found: pd.Series | None) -> str:
        if found is None:
            return NOTHING
        mean = f"**{found['mean']:.4f}**" if found.best else f"{found['mean']:.4f}"
        return f"{mean}{MARKS[found.mark]} ± {spread(found)} ({found.runs})"

    cells = shown(table, cell)
    cells.columns = [f"{metric}, {condition(table, ratio)}" for ratio, metric in cells]
    return markdown(names_of(table).join(cells)) + f"\n{legend(table)}\n"


def as_latex(table: Table) -> str:
    """Return the main table as LaTeX; it needs the package booktabs."""

    def cell(found: pd.Series | None) -> str:
        if found is None:
            return "--"
        mean = rf"\textbf{{{found['mean']:.4f}}}" if found.best else f"{found['mean']:.4f}"
        return rf"{mean}{LATEX_MARKS[found.mark]} {{\scriptsize$\pm${escaped(spread(found))} ({found.runs})}}"

    names, cells = names_of(table).map(escaped), shown(table, cell)
    cells.columns = pd.MultiIndex.from_tuples([(condition(table, ratio), metric) for ratio, metric in cells])
    names.columns = pd.MultiIndex.from_product([[""], names.columns])
    return f"% {legend(table)}\n" + latex(names.join(cells), len(names.columns))


def cells(table: Table) -> pd.DataFrame:
    """Return the main table with a line per cell, in full precision."""
    names = {"low": "band low", "high": "band high"}
    frame = names_of(table).join(table.cells.rename(columns=names).reset_index(KEYS[1:]))
    frame.insert(len(names_of(table).columns), "noise", table.label)
    return frame.reset_index()


def robustness(table: Table, floors: pd.DataFrame) -> Grid:
    """Return drop and retention per ratio, area, slope and half point per row and metric, with the noise floor."""
    noisy = [ratio for ratio in table.ratios if ratio]
    ratios, rows = np.array([0, *noisy]), []
    for row in table.rows:
        for metric in table.metrics:
            values = table.means(row, metric)
            values = values if table.ratios[0] == 0 else np.array([np.nan, *values])
            kept = statistics.retention(values)
            floor = floors["drop, mean"].get((row.label, metric), np.nan)
            summary = (
                measure(ratios, values) for measure in (statistics.area, statistics.slope, statistics.half_point)
            )
            rows.append([row.label, metric, values[0], floor, *(1 - kept[1:]), *kept[1:], *summary])
    columns = ["row", "metric", "clean", "noise floor", *(f"drop {r:g}" for r in noisy)]
    columns += [*(f"retention {r:g}" for r in noisy), "area", "slope", "half point"]
    return Grid(
        f"robustness-{slug(table.label)}",
        "Robustness",
        "Drop (M(0) − M(r)) / M(0) and retention M(r) / M(0) against the row's own clean runs; area under M over r, divided "
        "by M(0) and the range of r (1 = nothing lost); least-squares slope of M(r) / M(0) on r; half point = the ratio at "
        "which half is retained. A drop below the noise floor cannot be told from another seed. "
        "A row without all ratios has no area, slope and half point.",
        pd.DataFrame(rows, columns=columns),
    )


def gains(table: Table) -> Grid:
    """Return the gain over the baseline at every ratio, with the clean accuracy."""
    rows, has_clean = [], table.ratios[0] == 0
    for row in (row for row in table.rows if row.label in table.baselines):
        reference = table.baselines[row.label]
        for metric in table.metrics:
            own, other = table.means(row, metric), table.means(reference, metric)
            line = {
                "row": row.label,
                "baseline": reference.label,
                "metric": metric,
                "clean": own[0] if has_clean else np.nan,
            }
            avoided = statistics.drop_avoided(own, other) if has_clean else np.full(len(own), np.nan)
            relative = own / np.where(other > 0, other, np.nan) - 1
            for name, values in (("gain", own - other), ("relative gain", relative), ("drop avoided", avoided)):
                found = zip(table.ratios, values, strict=True)
                line |= {f"{name} {r:g}": value for r, value in found if r or name != "drop avoided"}
            rows.append(line)
    return Grid(
        f"gain-{slug(table.label)}",
        "Gain over the baseline",
        "Gain M − M_b and relative gain M / M_b − 1 at each ratio, beside the clean accuracy: a bad model is robust too. "
        "Drop avoided = 1 − drop / drop of the baseline; it is empty where the baseline does not drop.",
        pd.DataFrame(rows),
    )


def significance(table: Table) -> Grid:
    """Return the paired tests of a table."""
    return Grid(
        f"significance-{slug(table.label)}",
        f"Tests on {table.tested} per user",
        f"Wilcoxon's signed-rank test on {table.tested} per user, averaged over seeds, two-sided; users without a difference "
        "are dropped and counted. Holm corrects over all rows of this table. Effect: rank-biserial correlation. Detectable: "
        "the smallest mean difference found with 80 % power at the 5 % level. The tests are about users, not about "
        "seeds: see the noise floor.",
        table.tests,
    )


def noise_floor(report: Report) -> Grid:
    """Return the differences between two seeds of the same clean runs."""
    return Grid(
        "noise-floor",
        "Noise floor between seeds",
        "The same measures between two seeds of the clean runs: |M_a − M_b| / mean of M over all pairs of seeds, its largest "
        "value, and the mean |effect| per user. A drop or an effect below it cannot be told from another seed.",
        report.floors.reset_index(),
    )


def left_out(report: Report) -> Grid:
    """Return the run directories that are not in the report."""
    rows = [(entry.path.as_posix(), entry.reason) for entry in report.left_out]
    note = "Run directories that enter no figure."
    return Grid("left-out", "Left out", note, pd.DataFrame(rows, columns=["directory", "reason"]))
