"""Tables and pictures of the documents, made of results/*.csv; results/tables.yaml says which."""

import re
from html import escape
from pathlib import Path

import numpy as np

from seqrec.evidence.commands import normal
from seqrec.evidence.rows import METRICS, read
from seqrec.report.chart import Series, line_chart
from seqrec.report.statistics import LEVEL, holm
from seqrec.run.summary import results_table
from seqrec.utils.errors import UserError

NOT_RUN = "not run"
BEGIN = "<!-- results: "
BLOCK = re.compile(rf"({BEGIN}([\w-]+) -->\n)(?:(?!{BEGIN}).)*?(<!-- end of results -->)", re.DOTALL)
COLOURS = (
    *("#5b6472", "#0b63c4", "#7a8f00", "#cc3d54", "#14804f", "#8044b8"),
    *("#b86a00", "#007a86", "#8f5c3f", "#b5179e", "#2b2d42"),
)
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#5d6875}.x,.label{text-anchor:middle}.y{text-anchor:end}"
    ".grid{stroke:#dfe3e8}.axis{stroke:#5d6875}.curve polyline{fill:none;stroke:var(--c);stroke-width:2}"
    ".curve circle{fill:var(--c)}.paper{fill:#fff}"
)
SIZE, LEGEND = (560, 340), 170


class Results:
    """The rows of results/*.csv by the normal form of their command; a file that is not there has none."""

    def __init__(self, folder: Path):
        self.files = {}
        for path in sorted(folder.glob("*.csv")):
            rows = self.files.setdefault(path.stem, {})
            for row in read(path):
                rows.setdefault(normal(row["command"]), []).append(row)

    def rows(self, file: str, command: str, **wanted: object) -> list[dict[str, str]]:
        """Return the rows of a command that have the wanted values."""
        found = self.files.get(file, {}).get(normal(command), [])
        return [row for row in found if all(row[key] == str(value) for key, value in wanted.items())]


def share(value: float) -> str:
    """Return a metric as the papers write it: .0574."""
    return f"{value:.4f}".removeprefix("0")


def mean(rows: list[dict[str, str]], column: str, form=share) -> str:
    """Return the mean over seeds of a column, with ± its standard deviation (n - 1) where there are several."""
    values = [float(row[column]) for row in rows]
    return form(np.mean(values)) + (f" ± {form(np.std(values, ddof=1)).lstrip('+-')}" if len(values) > 1 else "")


def percent(value: str) -> str:
    """Return a share as a signed percentage."""
    return f"{100 * float(value):+.1f} %"


def comparison(results: Results, command: str, against: str, metric: str) -> dict[str, str] | None:
    """Return the row of gains.csv that compares two commands, its `note` naming its seeds where both have more."""
    ours, theirs = ({row["seed"] for row in results.rows("runs", side)} for side in (command, against))
    for row in results.rows("gains", command, metric=metric):
        compared = set(row["seeds"].split())
        # a gain of other seeds than the rows beside it have would contradict them
        if normal(row["against"]) == normal(against) and compared <= ours & theirs:
            return row | {"note": "" if compared == ours & theirs else f" (seeds {row['seeds']})"}
    return None


def gain(row: dict[str, str] | None) -> str:
    """Return a relative gain with its interval."""
    return f"{percent(row['gain'])} [{percent(row['low'])}, {percent(row['high'])}]{row['note']}" if row else NOT_RUN


def comparisons(specs: dict[str, dict]) -> list[tuple[str, str]]:
    """Return the pairs of commands that tables compare."""
    pairs = {}
    for spec in specs.values():
        noises = [noise_of(spec, ratio) for ratio in spec["ratios"]] if spec["kind"] == "gains" else [""]
        for row in spec["rows"]:
            for against in row.get("against", ()):
                pairs |= {(row["command"] + noise, against + noise): None for noise in noises}
    return list(pairs)


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_of_runs(results: Results, spec: dict) -> str:
    """Return a table with a line per command: what was run, its metrics, its gain over other commands, what others report."""
    compared, reported = (any(key in row for row in spec["rows"]) for key in ("against", "reported"))
    headings = ["", "`python train.py ...`", "seeds", "epochs (best)", "HR@10", "NDCG@10"]
    headings += ["validation NDCG@10", "parameters", "minutes", *(["NDCG@10 against"] if compared else [])]
    headings += ["reported (HR@10 / NDCG@10)"] if reported else []
    labels = {normal(row["command"]): row["label"] for row in spec["rows"]}
    lines = []
    for row in spec["rows"]:
        line = [row["label"], f"`{row['command']}`" if row["command"] else ""]
        runs = results.rows("runs", row["command"])
        if runs:
            epochs = ", ".join(f"{run['epochs']} ({run['best_epoch']})" for run in runs if int(run["epochs"]))
            line += [" ".join(run["seed"] for run in runs), epochs]
            line += [mean(runs, f"test {metric}") for metric in ("HR@10", "NDCG@10")]
            minutes = np.mean([float(run["train_seconds"]) for run in runs]) / 60
            line += [mean(runs, "valid NDCG@10"), f"{int(runs[0]['parameters']):,}", f"{minutes:.1f}"]
        else:
            line += [NOT_RUN] * 7
        if compared:
            line.append(
                "; ".join(
                    f"{labels.get(normal(other), f'`{other}`')}: "
                    + gain(comparison(results, row["command"], other, "NDCG@10"))
                    for other in row.get("against", [])
                )
            )
        line += [row.get("reported", "")] if reported else []
        lines.append(line)
    return markdown(headings, lines)


def table_of_trials(results: Results, spec: dict) -> str:
    """Return a table with a line per trial and its validation metric, the best of each label in bold."""
    best, lines = {}, []
    trials = [(row, run) for row in spec["rows"] for run in (results.rows("runs", row["command"]) or [None])[:1]]
    for row, run in trials:
        if run:
            best[row["label"]] = max(best.get(row["label"], 0), float(run["valid NDCG@10"]))
    for row, run in trials:
        cells = [NOT_RUN, NOT_RUN]
        if run:
            value = float(run["valid NDCG@10"])
            mark = "**" if value == best[row["label"]] else ""
            cells = [f"{run['epochs']} ({run['best_epoch']})", f"{mark}{share(value)}{mark}"]
        lines.append([row["label"], f"`{row['command']}`", *cells])
    return markdown(["", "`python train.py ...`", "epochs (best)", "validation NDCG@10"], lines)


def noise_of(spec: dict, ratio: float) -> str:
    """Return the arguments that a noise ratio adds to a command, none for the clean data of ratio 0."""
    return f" noise={spec['noise']} noise.ratio={ratio}" if ratio else ""


def at_ratio(results: Results, spec: dict, command: str, ratio: float) -> list[dict[str, str]]:
    """Return the runs of a command at a noise ratio."""
    return results.rows("runs", command + noise_of(spec, ratio))


def table_of_ratios(results: Results, spec: dict) -> str:
    """Return a table with a line per command and a column per noise ratio, and what is left at the highest one."""
    metric, ratios = spec["metric"], spec["ratios"]
    lines, commands = [], spec.get("commands", True)
    for row in spec["rows"]:
        cells = [at_ratio(results, spec, row["command"], ratio) for ratio in ratios]
        line = [row["label"], *([f"`{row['command']}`"] if commands else [])]
        line += [mean(cell, f"test {metric}") if cell else NOT_RUN for cell in cells]
        ends = [np.mean([float(run[f"test {metric}"]) for run in cell]) for cell in (cells[0], cells[-1]) if cell]
        lines.append([*line, f"{ends[1] / ends[0]:.0%}".replace("%", " %") if len(ends) == 2 else NOT_RUN])
    headings = ["", *(["`python train.py ...`"] if commands else [])]
    headings += [*(f"{metric} at {ratio:g}" for ratio in ratios), f"left at {ratios[-1]:g}"]
    return markdown(headings, lines)


def table_of_gains(results: Results, spec: dict) -> str:
    """Return a table with a line per comparison and a column per noise ratio: the relative gain at each.

    Gains that chance over users does not explain are in bold: Wilcoxon's p below .05 after Holm's correction for all comparisons
    of the table.
    """
    noises = [noise_of(spec, ratio) for ratio in spec["ratios"]]
    found = [
        (row["label"], [comparison(results, row["command"] + noise, other + noise, spec["metric"]) for noise in noises])
        for row in spec["rows"]
        for other in row["against"]
    ]
    tested = [row for _, rows in found for row in rows if row]
    corrected = holm(np.array([float(row["p"]) for row in tested]))
    certain = [row for row, p in zip(tested, corrected, strict=True) if p < LEVEL]
    lines = [[label, *(f"**{gain(row)}**" if row in certain else gain(row) for row in rows)] for label, rows in found]
    return markdown(["", *(f"{spec['metric']} at {ratio:g}" for ratio in spec["ratios"])], lines)


def table_of_cells(results: Results, spec: dict) -> str:
    """Return a table with a line per command and a column per perturbation of finished runs."""
    metric, lines = spec["metric"], []
    for row in spec["rows"]:
        line = [row["label"], f"`{row['command']}`"]
        for cell in spec["cells"]:
            place = {key: cell.get(key, "") for key in ("attack", "position", "k", "ratio")}
            place |= {"source": cell.get("source", "uniform"), "where": cell.get("where", "anywhere")}
            hits = results.rows("perturbed", row["command"], **place)
            drop = "" if cell["attack"] == "clean" else f" ({mean(hits, f'{metric} drop', _drop)})" if hits else ""
            line.append(f"{mean(hits, metric)}{drop}" if hits else NOT_RUN)
        lines.append(line)
    names = [cell.get("name", cell["attack"]) for cell in spec["cells"]]
    return markdown(["", "`python train.py ...`", *(f"{metric}, {name}" for name in names)], lines)


def _drop(value: float) -> str:
    return f"{-100 * value:+.0f} %"


def table_of_fields(results: Results, spec: dict) -> str:
    """Return a table with a line per command (and `where`), and columns of any CSV file in a format of their own."""
    lines = []
    for row in spec["rows"]:
        found = results.rows(spec["file"], row["command"], **row.get("where", {}))
        line = [row["label"], f"`{row['command']}`"]
        for column in spec["columns"]:
            values = [run[column["field"]] for run in found]
            form = f"{{:{column['format']}}}".format
            line.append(NOT_RUN if not found else "" if "" in values else mean(found, column["field"], form))
        lines.append(line)
    return markdown(["", f"`python {spec['script']} ...`", *(column["name"] for column in spec["columns"])], lines)


def screen(results: Results, spec: dict) -> str:
    """Return what the first run of a command without noise shows at its end, as a block of text."""
    (row,) = spec["rows"]
    for run in results.rows("runs", row["command"])[:1]:
        parts = {part: {name: float(run[f"{part} {name}"]) for name in METRICS} for part in ("valid", "test")}
        folder = Path("outputs", run["dataset"], run["noise"], f"{run['backbone']}-{run['method']}")
        shown = results_table(
            parts | {"best_epoch": int(run["best_epoch"])}, folder / f"seed{run['seed']}-{run['configuration']}"
        )
        return f"```text\n{shown}\n```\n"
    return f"{NOT_RUN}\n"


KINDS = {
    "screen": screen,
    "runs": table_of_runs,
    "trials": table_of_trials,
    "ratios": table_of_ratios,
    "gains": table_of_gains,
    "cells": table_of_cells,
    "fields": table_of_fields,
}


def picture(results: Results, spec: dict) -> str:
    """Return the curves of a table of ratios as an SVG file; commands with fewer than two ratios are left out."""
    series, legend = [], []
    for slot, row in enumerate(spec["rows"]):
        cells = [(ratio, at_ratio(results, spec, row["command"], ratio)) for ratio in spec["ratios"]]
        points = [
            (ratio, float(np.mean([float(run[f"test {spec['metric']}"]) for run in cell])))
            for ratio, cell in cells
            if cell
        ]
        if len(points) > 1:
            colour, label = COLOURS[slot % len(COLOURS)], escape(row["label"])
            x, y = zip(*points, strict=True)
            series.append(Series(row["label"], f"--c:{colour}", list(x), list(y), dots=True))
            top = 38 + 18 * len(legend)
            legend.append(
                f'<rect x="{SIZE[0] + 8}" y="{top}" width="18" height="3" fill="{colour}"/>'
                f'<text x="{SIZE[0] + 32}" y="{top + 5}">{label}</text>'
            )
    width = SIZE[0] + LEGEND
    title = f"{spec['metric']} against the ratio of {spec['noise']} noise"
    chart = line_chart(series, title, f"noise ratio ({spec['noise']})", SIZE, spec["ratios"], from_zero=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {SIZE[1]}" width="{width}" height="{SIZE[1]}"'
    paper = f'<rect class="paper" width="{width}" height="{SIZE[1]}"/>'
    body = re.sub(r'^<svg class="chart" viewBox="[^"]*"([^>]*>)', rf"{head}\1<style>{STYLE}</style>{paper}", chart)
    name = f'<text x="{SIZE[0] + 8}" y="22">{spec["metric"]} (test)</text>'
    return body.removesuffix("</svg>") + name + "".join(legend) + "</svg>\n"


def filled(document: str, results: Results, specs: dict[str, dict]) -> str:
    """Return a document whose marked blocks hold their tables; raises UserError for one that is not wanted or has no end."""

    def table(match: re.Match) -> str:
        begin, name, end = match.groups()
        if name not in specs:
            raise UserError(f"<!-- results: {name} -->: results/tables.yaml has {', '.join(specs)}")
        spec = specs[name]
        return f"{begin}{KINDS[spec['kind']](results, spec)}{end}"

    filled_in, count = BLOCK.subn(table, document)
    if count != document.count(BEGIN):
        raise UserError(f"{document.count(BEGIN)} blocks begin with '{BEGIN}NAME -->', {count} of them end")
    return filled_in
