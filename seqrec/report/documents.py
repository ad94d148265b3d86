"""Tables and pictures of the documents, made from results/*.csv as results/tables.yaml describes them."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from seqrec.report.committed import CLEAN, METRICS, Results, having
from seqrec.report.leaderboard import leaderboard
from seqrec.report.statistics import LEVEL, holm
from seqrec.report.tables import markdown
from seqrec.runs.summary import results_table
from seqrec.utils.errors import UserError

NOT_RUN = "not run"
BEGIN = "<!-- results: "
BLOCK = re.compile(rf"({BEGIN}([\w-]+) -->\n)(?:(?!{BEGIN}).)*?(<!-- end of results -->)", re.DOTALL)


def short(value: float) -> str:
    """Return a metric as papers print it: .0574."""
    return f"{value:.4f}".removeprefix("0")


def mean(values: pd.Series, form: Callable[[float], str] = short) -> str:
    """Return the mean over seeds, with ± its standard deviation (n - 1) where there are several; "not run" if a run lacks the value."""
    if not values.astype(bool).all():
        return NOT_RUN
    values = values.astype(float)
    return form(values.mean()) + (f" ± {form(values.std()).lstrip('+-')}" if len(values) > 1 else "")


def shown_gain(row: dict[str, str] | None) -> str:
    """Return a relative gain with its interval."""
    if row is None:
        return NOT_RUN
    gain, low, high = (f"{100 * float(row[name]):+.1f} %" for name in ("gain", "low", "high"))
    return f"{gain} [{low}, {high}]{row['note']}"


def chosen(frame: pd.DataFrame, spec: dict) -> str:
    """Return a table as Markdown: its first column and those that the spec names, all of them if it names none."""
    return markdown(frame[[frame.columns[0], *spec["columns"]]] if "columns" in spec else frame)


def epochs(runs: pd.DataFrame) -> str:
    """Return the number of epochs of each run, and its best one."""
    pairs = zip(runs["epochs"], runs["best_epoch"], strict=True)
    return ", ".join(f"{count} ({best})" for count, best in pairs if int(count))


def table_of_runs(results: Results, spec: dict) -> str:
    """Return a table with a line per setting: its command, metrics, gains over others, and the published figures."""
    labels = {row["setting"]: row["label"] for row in spec["rows"]}
    lines = []
    for row in spec["rows"]:
        runs = results.runs(row["setting"])
        line = {"": row["label"], "`python train.py ...`": results.command(row["setting"])}
        figures = [NOT_RUN] * 7
        if len(runs):
            metrics = [mean(runs[name]) for name in ("test HR@10", "test NDCG@10", "valid NDCG@10")]
            minutes = f"{runs.train_seconds.astype(float).mean() / 60:.1f}"
            figures = [
                " ".join(map(str, runs.seed)),
                epochs(runs),
                *metrics,
                f"{int(runs.parameters.iloc[0]):,}",
                minutes,
            ]
        names = ("seeds", "epochs (best)", "HR@10", "NDCG@10", "validation NDCG@10", "parameters", "minutes")
        line |= dict(zip(names, figures, strict=True))
        gains = [
            f"{labels.get(other['setting'], other['label'])}: "
            + shown_gain(results.gain(row["setting"], other["setting"], CLEAN, "NDCG@10"))
            for other in row["against"]
        ]
        lines.append(line | {"NDCG@10 against": "; ".join(gains), "reported (HR@10 / NDCG@10)": row["reported"]})
    frame = pd.DataFrame(lines)
    optional = ("NDCG@10 against", "reported (HR@10 / NDCG@10)")
    return chosen(frame.drop(columns=[name for name in optional if not frame[name].any()]), spec)


def table_of_trials(results: Results, spec: dict) -> str:
    """Return a table with a line per trial and its validation metric, the best of each label in bold."""
    lines = []
    for row in spec["rows"]:
        runs = results.runs(row["setting"]).iloc[:1]
        value = float(runs["valid NDCG@10"].iloc[0]) if len(runs) else np.nan
        lines.append((row["label"], results.command(row["setting"]), epochs(runs) if len(runs) else NOT_RUN, value))
    frame = pd.DataFrame(lines, columns=["", "`python train.py ...`", "epochs (best)", "validation NDCG@10"])
    value = frame.pop("validation NDCG@10")
    best = value == value.groupby(frame[""]).transform("max")
    shown = value.map(lambda number: NOT_RUN if np.isnan(number) else short(number))
    return markdown(frame.assign(**{"validation NDCG@10": shown.where(~best, "**" + shown + "**")}))


def at_ratios(results: Results, spec: dict, row: dict) -> dict[float, pd.Series]:
    """Return the spec's metric of a setting by seed, at each ratio of training noise; empty where it has not been run."""
    found = {}
    for ratio in spec["ratios"]:
        runs = results.runs(row["setting"], results.wanted.noise(spec, ratio))
        found[ratio] = runs.set_index("seed")[f"test {spec['metric']}"].astype(float) if len(runs) else pd.Series()
    return found


def table_of_ratios(results: Results, spec: dict) -> str:
    """Return a table with a line per setting and a column per noise ratio, and what is retained at the highest one.

    Only seeds that have run at both ends count: seeds differ by as much as methods do.
    """
    lines, (first, last) = [], (spec["ratios"][0], spec["ratios"][-1])
    for row in spec["rows"]:
        found = at_ratios(results, spec, row)
        seeds = found[first].index.intersection(found[last].index)
        kept = 100 * found[last][seeds].mean() / found[first][seeds].mean()
        lines.append(
            {"": row["label"], "`python train.py ...`": results.command(row["setting"])}
            | {f"{spec['metric']} at {r:g}": mean(values) if len(values) else NOT_RUN for r, values in found.items()}
            | {f"retained at {last:g}": f"{kept:.0f} %" if len(seeds) else NOT_RUN}
        )
    return chosen(pd.DataFrame(lines), spec)


def table_of_gains(results: Results, spec: dict) -> str:
    """Return a table with a line per comparison and a column per noise ratio: the relative gain at each.

    Gains that chance over users does not explain are in bold: Wilcoxon's p below .05 after Holm's correction for all comparisons
    of the table.
    """
    noises = [results.wanted.noise(spec, ratio) for ratio in spec["ratios"]]
    pairs = [(row, other) for row in spec["rows"] for other in row["against"]]
    found = [
        [results.gain(row["setting"], other["setting"], noise, spec["metric"]) for noise in noises]
        for row, other in pairs
    ]
    tested = [gain for gains in found for gain in gains if gain]
    corrected = holm(np.array([float(gain["p"]) for gain in tested]))
    certain = [gain for gain, p in zip(tested, corrected, strict=True) if p < LEVEL]
    lines = [
        [row["label"], *(f"**{shown_gain(gain)}**" if gain in certain else shown_gain(gain) for gain in gains)]
        for (row, _), gains in zip(pairs, found, strict=True)
    ]
    return markdown(pd.DataFrame(lines, columns=["", *(f"{spec['metric']} at {ratio:g}" for ratio in spec["ratios"])]))


def table_of_methods(results: Results, spec: dict) -> str:
    """Return a table with a line per method: texts, and its gain over the setting that it is first compared with, under each heading."""
    lines = []
    for row in spec["rows"]:
        line = {"method": row["label"], **row["texts"]}
        for heading, name in row["gains"].items():
            ours = results.wanted.row(name)
            line[heading] = shown_gain(results.gain(ours["setting"], ours["against"][0]["setting"], CLEAN, "NDCG@10"))
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def table_of_cells(results: Results, spec: dict) -> str:
    """Return a table with a line per setting and a column per perturbation of finished runs."""
    metric, lines = spec["metric"], []
    for row in spec["rows"]:
        line = {"": row["label"], "`python train.py ...`": results.command(row["setting"])}
        for cell in spec["cells"]:
            wanted = {"attack": "", "position": "", "k": "", "ratio": "", "source": "uniform", "where": "anywhere"}
            wanted |= {name: value for name, value in cell.items() if name != "name"}
            hits = results.rows("perturbed", row["setting"], **wanted)
            shown = mean(hits[metric]) if len(hits) else NOT_RUN
            if len(hits) and cell["attack"] != "clean":
                shown += f" ({mean(hits[f'{metric} drop'], lambda drop: f'{-100 * drop:+.0f} %')})"
            line[f"{metric}, {cell.get('name', cell['attack'])}"] = shown
        lines.append(line)
    return chosen(pd.DataFrame(lines), spec)


def table_of_fields(results: Results, spec: dict) -> str:
    """Return a table with a line per setting, or command of a benchmark, and columns of any file, each with its own format."""
    lines = []
    for row in spec["rows"]:
        where = row.get("where", {})
        if "command" in row:
            found = having(results.files.get(spec["file"], pd.DataFrame()), {"command": row["command"], **where})
        else:
            found = results.rows(spec["file"], row["setting"], **where)
        command = f"`{row['command']}`" if "command" in row else results.command(row["setting"])
        line = {"": row["label"], f"`python {spec['script']} ...`": command}
        for column in spec["columns"]:
            values = found.get(column["field"], pd.Series(dtype=str))
            empty = "" if len(found) else NOT_RUN
            form = f"{{:{column['format']}}}".format
            line[column["name"]] = mean(values, form) if len(values) and values.all() else empty
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def screen(results: Results, spec: dict) -> str:
    """Return the final screen output of the first clean run of a setting, as a block of text."""
    (row,) = spec["rows"]
    runs = results.runs(row["setting"])
    if not len(runs):
        return f"{NOT_RUN}\n"
    run = runs.iloc[0]
    metrics = {split: {name: float(run[f"{split} {name}"]) for name in METRICS} for split in ("valid", "test")}
    folder = Path(
        "outputs", run.dataset, run.noise, f"{run.backbone}-{run.method}", f"seed{run.seed}-{run.configuration}"
    )
    return f"```text\n{results_table(metrics | {'best_epoch': int(run.best_epoch)}, folder)}\n```\n"


KINDS = {
    "screen": screen,
    "runs": table_of_runs,
    "trials": table_of_trials,
    "ratios": table_of_ratios,
    "gains": table_of_gains,
    "methods": table_of_methods,
    "cells": table_of_cells,
    "fields": table_of_fields,
    "leaderboard": leaderboard,
}


def filled(document: str, results: Results) -> str:
    """Return a document whose marked blocks hold their tables; raises UserError for an unknown or an unclosed one."""
    tables = results.wanted.tables

    def table(match: re.Match) -> str:
        begin, name, end = match.groups()
        if name not in tables:
            raise UserError(f"<!-- results: {name} -->: results/tables.yaml has {', '.join(tables)}")
        return f"{begin}{KINDS[tables[name]['kind']](results, tables[name])}{end}"

    filled_in, count = BLOCK.subn(table, document)
    if count != document.count(BEGIN):
        raise UserError(f"{document.count(BEGIN)} blocks begin with '{BEGIN}NAME -->', {count} of them end")
    return filled_in
