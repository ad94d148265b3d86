"""The one writer of tables: a pandas DataFrame in, Markdown, LaTeX or CSV out."""

import re
from itertools import groupby
from pathlib import Path

import pandas as pd

from seqrec.utils.files import write_atomically

LATEX = str.maketrans(
    {char: "\\" + char for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "·": r"$\cdot$", "–": "--"}
)
FORMULA = re.compile(r"(?!-?[\d.]+(e[+-]?\d+)?$)[=+\-@\t\r]")  # a spreadsheet reads text that begins so as a formula


def escaped(text: object) -> str:
    """Return text escaped for LaTeX."""
    return str(text).translate(LATEX)


def markdown(frame: pd.DataFrame, figures: bool = False) -> str:
    """Return a Markdown table of shown texts; with `figures` all columns but the first are right-aligned."""
    rules = ["---", *["---:" if figures else "---"] * (len(frame.columns) - 1)]
    lines = [frame.columns, rules, *frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def latex(frame: pd.DataFrame, texts: int) -> str:
    """Return a LaTeX table of cells that are LaTeX already; it needs the package booktabs.

    The columns are pairs (group, name); the first `texts` are left-aligned, and the groups of the others have a rule.
    """
    groups = [(name, len(list(part))) for name, part in groupby(group for group, _ in frame.columns[texts:])]
    spans, rules, first = [""] * texts, [], texts + 1
    for name, width in groups:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    lines = [spans, [escaped(name) for _, name in frame.columns], *frame.itertuples(index=False)]
    head, names, *body = (" & ".join(map(str, line)) + r" \\" for line in lines)
    columns = "l" * texts + "r" * (len(frame.columns) - texts)
    begin = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, "".join(rules), names, r"\midrule"]
    return "\n".join([*begin, *body, r"\bottomrule", r"\end{tabular}", ""])


def to_csv(frame: pd.DataFrame) -> str:
    """Return CSV in full precision; NaN is an empty field, and text that a spreadsheet would read as a formula is prefixed with a quote."""
    lines = [[_harmless(value) for value in line] for line in frame.itertuples(index=False)]
    harmless = pd.DataFrame(lines, columns=frame.columns, dtype=object)
    return harmless.to_csv(index=False, lineterminator="\n")


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as a CSV file, whole or not at all."""
    write_atomically(path, to_csv(frame).encode())


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV file of `write_csv` as texts, empty where there is no value."""
    frame = pd.read_csv(path, dtype=object, keep_default_na=False)
    return frame.map(lambda text: text[1:] if text[:1] == "'" and FORMULA.match(text[1:]) else text)
