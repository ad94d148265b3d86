"""The report as one page that needs nothing but itself."""

import math
from collections import Counter
from html import escape

from seqrec.report.analysis import Report, Table, data_of
from seqrec.report.chart import Series, cells, line_chart
from seqrec.report.grids import Grid, Value, slug
from seqrec.report.style import SCRIPT, STYLE
from seqrec.report.tables import MARKS, NOTHING, columns, condition, legend, named_columns, number, spread
from seqrec.report.training import Map, Panel, conditions, maps, panels

COLOURS = 8
KEY = '<svg class="key" width="26" height="8"><line x1="0" x2="26" y1="4" y2="4"/></svg>'
SHEETS = {
    "training": "Validation in training",
    "own-values": "The methods' own values",
    "places": "The methods' own values by place in the history",
}
GENERATOR = '<meta name="generator" content="seqrec">'  # by this a page is known as a report's
DASHES = ("none", "7 4", "2 3", "9 3 2 3")


def page(report: Report, grids: dict[str, list[Grid]], general: list[Grid], notes: list[str]) -> str:
    """Return the page; `grids` are the smaller tables of each noise setting, `general` those of all runs."""
    sections = [(f"noise-{slug(t.label)}", _title(t), _noise(t, grids[t.label])) for t in report.tables]
    for grid in general:
        if grid.rows:
            sections.append((grid.name, grid.title, _grid(grid, heading=False)))
    for anchor, found in panels(report).items():
        if found:
            sections.append((anchor, SHEETS[anchor], _panels(found, conditions(report))))
    if drawn := maps(report):
        sections.append(("maps", "What the matrices do", _maps(drawn)))
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "".join(f'<section id="{a}"><h2>{escape(t)}</h2>{content}</section>' for a, t, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{GENERATOR}'
        f"<title>{escape(_heading(report))}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(_heading(report))}</h1><p class=soft>{escape(data_of(report.runs[0]))}</p><nav>{links}</nav>"
        f"{_facts(report)}{_flags(report, notes)}{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _heading(report: Report) -> str:
    return f"Robustness on {report.runs[0].config['dataset']['name']}"


def _title(table: Table) -> str:
    return "Clean runs" if not table.noise else f"Training noise: {table.label}"


def _facts(report: Report) -> str:
    protocol = report.runs[0].manifest["protocol"]
    commits = Counter(run.manifest.get("git_commit") or "unknown" for run in report.runs)
    facts = {
        "runs": f"{len(report.runs)} in {len(report.rows)} rows; left out: {len(report.left_out)}",
        "questions": f"{report.runs[0].manifest['test_questions']:,} users, whole catalogue",
        "split": protocol["split"],
        "history masked": "yes" if protocol["mask_history"] else "no",
        "ties": protocol["ties"],
        "baseline": report.baseline,
        "data sha256": report.runs[0].manifest["data_sha256"],
        "code": ", ".join(f"{name[:12]}{'+changes' * ('+' in name)} ({count} runs)" for name, count in commits.items()),
    }
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f'<div class=card><dl class="facts">{items}</dl></div>'


def _flags(report: Report, notes: list[str]) -> str:
    entries = [*report.flags, *notes]
    if report.left_out:
        found = len(report.left_out) + len(report.runs)
        entries.append(
            f"{len(report.left_out)} of {found} run directories are left out; the reasons are in the table Left out."
        )
    if not entries:
        return ""
    items = "".join(f"<li>{escape(entry)}</li>" for entry in entries)
    return f'<div class="card flags" id="flags"><h2>Before you read on</h2><ul>{items}</ul></div>'


def _noise(table: Table, grids: list[Grid]) -> str:
    parts = [_main_table(table), f'<p class="note">{escape(legend(table))}</p>']
    if len(table.ratios) > 1:
        charts = "".join(_curves(table, metric) for metric in table.metrics)
        parts.append(f'<h3>Curves</h3>{_legend_of_rows(table)}<div class="charts">{charts}</div>')
        parts.append('<p class="note">Bands: 95 % bootstrap over users of the average over seeds.</p>')
    return "".join([*parts, *(_grid(grid, heading=True) for grid in grids if grid.rows)])


def _main_table(table: Table) -> str:
    headings, names = named_columns(table)
    top = f'<th colspan="{len(headings)}"></th>' + "".join(
        f'<th class="group first" colspan="{len(table.metrics)}">{escape(condition(table, ratio))}</th>'
        for ratio in table.ratios
    )
    line = "".join(f'<th class="text">{name}</th>' for name in headings)
    line += "".join(f'<th class="{_edge(table, metric)}">{escape(metric)}</th>' for _, metric in columns(table))
    rows = []
    for row, name in zip(table.rows, names, strict=True):
        first, *others = (escape(part) for part in name)
        cells = "".join(_cell(table, row.label, ratio, metric) for ratio, metric in columns(table))
        rows.append(f"<tr><th>{first}</th>{''.join(f'<td class=text>{part}</td>' for part in others)}{cells}</tr>")
    head = f"<thead><tr>{top}</tr><tr>{line}</tr></thead>"
    return f'<div class="scroll"><table class="main">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _edge(table: Table, metric: str) -> str:
    return "first" if metric == table.metrics[0] else ""


def _cell(table: Table, label: str, ratio: float, metric: str) -> str:
    cell = table.cells.get((label, ratio, metric))
    edge = _edge(table, metric)
    if cell is None:
        return f'<td class="{edge}">{NOTHING}</td>'
    place = {"noise": table.label, "row": label, "ratio": repr(ratio), "metric": metric, "value": repr(cell.mean)}
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in place.items())
    mean = f"<b>{cell.mean:.4f}</b>" if cell.best else f"{cell.mean:.4f}"
    mark = f'<span class="{cell.mark}">{MARKS[cell.mark]}</span>' if cell.mark else ""
    return f'<td class="{edge} {"best" if cell.best else ""}"{data}>{mean}{mark} <small>± {spread(cell)} ({cell.runs})</small></td>'


def _styles(table: Table) -> dict[str, str]:
    return {
        row.label: f"--c:var(--c{slot % COLOURS});--d:{DASHES[slot // COLOURS % len(DASHES)]}"
        for slot, row in enumerate(table.rows)
    }


def _legend_of_rows(table: Table) -> str:
    items = "".join(
        f'<li><button style="{style}" data-row="{escape(label)}" aria-pressed="true">{KEY}{escape(label)}</button></li>'
        for label, style in _styles(table).items()
    )
    return f'<ul class="legend">{items}</ul>'


def _curves(table: Table, metric: str) -> str:
    series = []
    for label, style in _styles(table).items():
        found = [
            (ratio, table.cells[label, ratio, metric])
            for ratio in table.ratios
            if (label, ratio, metric) in table.cells
        ]
        ratios, cells = [ratio for ratio, _ in found], [cell for _, cell in found]
        bands = [cell.low for cell in cells], [cell.high for cell in cells]
        place = {"noise": table.label, "row": label, "metric": metric}
        series.append(Series(label, style, ratios, [cell.mean for cell in cells], *bands, place, dots=True))
    title = f"{metric} against the noise ratio"
    chart = line_chart(series, title, f"noise ratio ({table.label})", (560, 340), table.ratios, from_zero=True)
    return f"<figure><figcaption>{escape(metric)}</figcaption>{chart}</figure>"


def _panels(found: list[Panel], names: list[str]) -> str:
    colours = {
        name: f"--c:hsl({215 - 215 * slot / max(1, len(names) - 1):.0f} 70% 52%)" for slot, name in enumerate(names)
    }
    items = "".join(f'<li><span style="{style}">{KEY}{escape(name)}</span></li>' for name, style in colours.items())
    figures = []
    for panel in found:
        series = []
        for noise, run, places, values in panel.lines:
            kept = [(x, y) for x, y in zip(places, values, strict=True) if math.isfinite(y)]
            x, y = [x for x, _ in kept], [y for _, y in kept]
            series.append(Series(f"{noise}, seed {run.config['seed']}", colours[noise], x, y))
        title = f"{panel.row}: {panel.value}"
        chart = line_chart(series, title, panel.x, (330, 210), None, from_zero=False)
        figures.append(
            f"<figure><figcaption>{escape(panel.row)} <span>{escape(panel.value)}</span></figcaption>{chart}</figure>"
        )
    note = '<p class="note">One line per run, coloured by the noise it was trained under.</p>'
    return f'{note}<ul class="legend">{items}</ul><div class="panels">{"".join(figures)}</div>'


def _maps(drawn: list[Map]) -> str:
    figures = []
    for entry in drawn:
        title = f"{entry.row}: {entry.value}, {entry.condition}"
        figures.append(
            f"<figure><figcaption>{escape(entry.row)} <span>{escape(entry.value)}, {escape(entry.condition)}</span></figcaption>"
            f"{cells(entry.values.tolist(), title, 'from place', 'to place')}</figure>"
        )
    note = (
        "Share of the views in which the item of one place of the history stands in another, mean over training histories; "
        "0 is the newest item, the diagonal is staying. Point at a cell for its number."
    )
    return f'<p class="note">{note}</p><div class="panels">{"".join(figures)}</div>'


def _grid(grid: Grid, heading: bool) -> str:
    texts = [isinstance(value, str) for value in grid.rows[0]]
    head = "".join(
        f"<th{' class=text' if text else ''}>{escape(name)}</th>"
        for name, text in zip(grid.columns, texts, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(_value(*cell) for cell in zip(grid.columns, row, strict=True))}</tr>" for row in grid.rows
    )
    title = f"<h3>{escape(grid.title)}</h3>" if heading else ""
    return (
        f'{title}<p class="note">{escape(grid.note)}</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _value(column: str, value: Value) -> str:
    shown = escape(number(value, column))
    if column in ("row", "directory"):
        return f"<th>{shown}</th>"
    if isinstance(value, str):
        return f'<td class="{"wide" if len(value) > 60 else "text"}">{shown}</td>'
    return f'<td data-value="{value}">{shown}</td>'
