"""The report as one self-contained page."""

import math
from collections import Counter
from html import escape

import pandas as pd

from seqrec.report.analysis import Report, Table
from seqrec.report.figures import DASHES, inline, look, themed
from seqrec.report.grids import MARKS, NOTHING, Grid, condition, legend, names_of, shown, slug, spread
from seqrec.report.style import SCRIPT, STYLE

SHEETS = {
    "training": ("Validation in training", "One line per run, coloured by the noise it was trained under."),
    "own-values": ("The methods' own values", "One line per run, coloured by the noise it was trained under."),
    "positions": ("The methods' own values by position", "By how far back an item is in the history; 0 is the newest."),
    "search": ("Validation in tuning", "The best complete trial so far."),
    "maps": (
        "What the matrices do",
        "Fraction of the views in which the item of one position of the history is moved to another, mean over training histories; "
        "0 is the newest item, the diagonal is staying. The numbers are in maps.csv.",
    ),
}
GENERATOR = '<meta name="generator" content="seqrec">'  # marks a page as a report
DASH_ARRAYS = dict(zip(DASHES, ("none", "7 4", "2 3", "9 3 2 3"), strict=True))


def page(
    report: Report,
    grids: dict[str, list[Grid]],
    general: list[Grid],
    curves: dict[str, list[str]],
    sheets: dict[str, list[str]],
    notes: list[str],
) -> str:
    """Return the page; `grids` are the smaller tables of each noise setting, `general` those of all runs.

    `curves` are the SVG of each noise setting's curves, `sheets` those of training by name.
    """
    sections = [
        (f"noise-{slug(t.label)}", _title(t), _noise(t, grids[t.label], curves[t.label])) for t in report.tables
    ]
    for grid in general:
        if len(grid.frame):
            sections.append((grid.name, grid.title, _grid(grid, heading=False)))
    for anchor, pictures in sheets.items():
        if pictures:
            title, note = SHEETS[anchor]
            sections.append((anchor, title, f'<p class="note">{note}</p>{_pictures(pictures, title)}'))
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "".join(f'<section id="{a}"><h2>{escape(t)}</h2>{content}</section>' for a, t, content in sections)
    heading = escape(f"Robustness on {report.runs[0].names['dataset']}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{GENERATOR}'
        f"<title>{heading}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{heading}</h1><p class=soft>{escape(report.runs[0].data)}</p><nav>{links}</nav>"
        f"{_facts(report)}{_flags(report, notes)}{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _title(table: Table) -> str:
    return "Clean runs" if not table.noise else f"Training noise: {table.label}"


def _facts(report: Report) -> str:
    protocol = report.runs[0].protocol
    commits = Counter(str(run.manifest.get("git_commit") or "unknown") for run in report.runs if not run.foreign)
    facts = {
        "runs": f"{len(report.runs)} in {len(report.rows)} rows; left out: {len(report.left_out)}",
        "test users": f"{report.runs[0].manifest['test_questions']:,}, ranked over the whole catalogue",
        "split": protocol["split"].get("name"),
        "history masked": "yes" if protocol["mask_history"] else "no",
        "ties": protocol["ties"],
        "baseline": report.baseline,
        "data sha256": protocol["data_sha256"],
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


def _noise(table: Table, grids: list[Grid], curves: list[str]) -> str:
    parts = [_main_table(table), f'<p class="note">{escape(legend(table))}</p>']
    if curves:
        parts.append(f'<h3>Curves</h3>{_legend_of_rows(table)}<div class="charts">{_pictures(curves, "Curves")}</div>')
        parts.append('<p class="note">Bands: 95 % bootstrap over users of the average over seeds.</p>')
    return "".join([*parts, *(_grid(grid, heading=True) for grid in grids if len(grid.frame))])


def _pictures(svgs: list[str], title: str) -> str:
    return "".join(f'<figure tabindex="0">{inline(svg, title)}</figure>' for svg in svgs)


def _main_table(table: Table) -> str:
    names, cells = names_of(table), shown(table, _content)
    top = f'<td colspan="{len(names.columns)}"></td>' + "".join(
        f'<th class="group first" scope="colgroup" colspan="{len(table.metrics)}">{escape(condition(table, ratio))}</th>'
        for ratio in table.ratios
    )
    line = "".join(f'<th class="text">{name}</th>' for name in names)
    line += "".join(f'<th class="{_edge(table, metric)}">{escape(metric)}</th>' for _, metric in cells)
    rows = []
    for label, name in names.iterrows():
        first, *others = map(escape, name)
        row = "".join(
            f'<td class="{_edge(table, metric)}" data-noise="{escape(table.label)}" data-row="{escape(label)}" '
            f'data-ratio="{ratio!r}" data-metric="{escape(metric)}"{cells.loc[label, (ratio, metric)]}</td>'
            for ratio, metric in cells
        )
        rows.append(
            f"<tr><th>{first}</th>{''.join(f'<td class={_width(part)}>{part}</td>' for part in others)}{row}</tr>"
        )
    head = f"<thead><tr>{top}</tr><tr>{line}</tr></thead>"
    return f'<div class="scroll"><table class="main">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _edge(table: Table, metric: str) -> str:
    return "first" if metric == table.metrics[0] else ""


def _content(cell: pd.Series | None) -> str:
    """Return the end of a <td> tag and its content."""
    if cell is None:
        return f">{NOTHING}"
    mean = f"<b>{cell['mean']:.4f}</b>" if cell.best else f"{cell['mean']:.4f}"
    mark = f'<span class="{cell.mark}">{MARKS[cell.mark]}</span>' if cell.mark else ""
    return f' data-value="{float(cell["mean"])!r}">{mean}{mark} <small>± {spread(cell)} ({cell.runs})</small>'


def _legend_of_rows(table: Table) -> str:
    items = []
    for slot, row in enumerate(table.rows):
        colour, dash = look(slot)
        label = escape(row.label)
        key = f'<svg class="key" width="26" height="8" stroke="{colour}" stroke-dasharray="{DASH_ARRAYS[dash]}">'
        key += '<line x1="0" x2="26" y1="4" y2="4"/></svg>'
        items.append(f'<li><button data-row="{label}" aria-pressed="true">{themed(key)}{label}</button></li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _grid(grid: Grid, heading: bool) -> str:
    texts = [isinstance(value, str) for value in grid.frame.iloc[0]]
    head = "".join(
        f"<th{' class=text' if text else ''}>{escape(name)}</th>" for name, text in zip(grid.frame, texts, strict=True)
    )
    lines = grid.frame.itertuples(index=False)
    rows = "".join(f"<tr>{''.join(map(_value, grid.frame, line))}</tr>" for line in lines)
    title = f"<h3>{escape(grid.title)}</h3>" if heading else ""
    return (
        f'{title}<p class="note">{escape(grid.note)}</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _value(column: str, value: str | float) -> str:
    shown = escape(number(value, column))
    if column in ("row", "directory"):
        return f"<th>{shown}</th>"
    if isinstance(value, str):
        return f"<td class={_width(value)}>{shown}</td>"
    return f'<td data-value="{value}">{shown}</td>'


def _width(text: str) -> str:
    return "wide" if len(text) > 60 else "text"


def number(value: str | float, column: str = "") -> str:
    """Return a value as text: four decimals, three digits where it is small, – where there is none; ratios unchanged."""
    if isinstance(value, str):
        return value
    if column == "ratio":
        return f"{value:g}"
    if math.isnan(value):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2e}"
