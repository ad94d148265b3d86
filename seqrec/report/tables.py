"""The main table and the smaller ones as Markdown, CSV and LaTeX."""

import csv
import io
import math

from seqrec.report.analysis import Cell, Table
from seqrec.report.grids import Grid, Value
from seqrec.report.rows import Row

MARKS = {"better": "↑", "worse": "↓", "": ""}
LATEX_MARKS = {"better": r"$^{\uparrow}$", "worse": r"$^{\downarrow}$", "": ""}
NOTHING = "–"
LATEX = str.maketrans({char: "\\" + char for char in "&%$#_{}"} | {"·": r"$\cdot$", "–": "--"})


def number(value: Value, column: str = "") -> str:
    """Return a value as it is read: four decimals, three digits where it is small, – where there is none; ratios as they are."""
    if isinstance(value, str):
        return value
    if column == "ratio":
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return NOTHING
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2e}"


def named_columns(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the headings and, per row, the values of the columns that name it; loss and prefixes are always there."""
    headings = ["method", "backbone", "loss", "prefixes", "variant", "settings"]
    values = [
        [row.method, row.backbone, row.loss, "yes" if row.prefixes else "no", row.variant, row.differs]
        for row in table.rows
    ]
    kept = [slot for slot in range(len(headings)) if slot < 4 or any(value[slot] for value in values)]
    return [headings[slot] for slot in kept], [[value[slot] for slot in kept] for value in values]


def columns(table: Table) -> list[tuple[float, str]]:
    """Return the table's columns of figures as (ratio, metric)."""
    return [(ratio, metric) for ratio in table.ratios for metric in table.metrics]


def spread(cell: Cell) -> str:
    """Return a cell's standard deviation as it is read."""
    return NOTHING if math.isnan(cell.deviation) else f"{cell.deviation:.4f}"


def condition(table: Table, ratio: float) -> str:
    """Return a ratio of the table's noise in words."""
    return f"{table.label} {ratio:g}" if ratio else "clean"


def legend(table: Table) -> str:
    """Return how the cells are to be read."""
    return (
        f"Test part; mean ± standard deviation over (runs); bold: best of its column; ↑ ↓: {table.tested} per user better, worse "
        "than the baseline's (Wilcoxon, Holm-corrected p < 0.05)."
    )


def markdown(table: Table) -> str:
    """Return the main table as Markdown."""

    def cell(row: Row, ratio: float, metric: str) -> str:
        found = table.cells.get((row.label, ratio, metric))
        if found is None:
            return NOTHING
        mean = f"**{found.mean:.4f}**" if found.best else f"{found.mean:.4f}"
        return f"{mean}{MARKS[found.mark]} ± {spread(found)} ({found.runs})"

    headings, names = named_columns(table)
    headings = [*headings, *(f"{metric}, {condition(table, ratio)}" for ratio, metric in columns(table))]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for row, name in zip(table.rows, names, strict=True):
        lines.append(f"| {' | '.join([*name, *(cell(row, *column) for column in columns(table))])} |")
    return "\n".join([*lines, "", legend(table), ""])


def latex(table: Table) -> str:
    """Return the main table as LaTeX; it needs the package booktabs."""

    def cell(row: Row, ratio: float, metric: str) -> str:
        found = table.cells.get((row.label, ratio, metric))
        if found is None:
            return "--"
        mean = rf"\textbf{{{found.mean:.4f}}}" if found.best else f"{found.mean:.4f}"
        return rf"{mean}{LATEX_MARKS[found.mark]} {{\scriptsize$\pm${spread(found).translate(LATEX)} ({found.runs})}}"

    headings, names = named_columns(table)
    width, metrics = len(headings), len(table.metrics)
    groups = [
        rf"\multicolumn{{{metrics}}}{{c}}{{{condition(table, ratio).translate(LATEX)}}}" for ratio in table.ratios
    ]
    rules = [
        rf"\cmidrule(lr){{{width + metrics * slot + 1}-{width + metrics * (slot + 1)}}}"
        for slot in range(len(table.ratios))
    ]
    lines = [
        rf"% {legend(table)}",
        rf"\begin{{tabular}}{{{'l' * width}{'r' * len(columns(table))}}}",
        r"\toprule",
        " & ".join([""] * width + groups) + r" \\",
        "".join(rules),
        " & ".join([*headings, *(metric for _, metric in columns(table))]) + r" \\",
        r"\midrule",
    ]
    for row, name in zip(table.rows, names, strict=True):
        cells = (cell(row, *column) for column in columns(table))
        lines.append(" & ".join([*(part.translate(LATEX) for part in name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def cells_csv(table: Table) -> str:
    """Return the main table as CSV, a line per cell, in full precision."""
    headings, names = named_columns(table)
    fields = ("noise", "ratio", "metric", "mean", "deviation", "runs", "best", "mark", "band low", "band high")
    lines = [["row", *headings, *fields]]
    for row, name in zip(table.rows, names, strict=True):
        for ratio, metric in columns(table):
            cell = table.cells.get((row.label, ratio, metric))
            if cell:
                figures = (cell.mean, cell.deviation, cell.runs, cell.best, cell.mark, cell.low, cell.high)
                lines.append([row.label, *name, table.label, ratio, metric, *figures])
    return comma_separated(lines)


def grid_csv(grid: Grid) -> str:
    """Return a smaller table as CSV, in full precision."""
    return comma_separated([grid.columns, *grid.rows])


def comma_separated(lines: list[list]) -> str:
    """Return lines as CSV; NaN becomes an empty field."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        ["" if isinstance(value, float) and math.isnan(value) else value for value in line] for line in lines
    )
    return stream.getvalue()
