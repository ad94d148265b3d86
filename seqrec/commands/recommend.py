"""Recommend items to users of the run's data, or for sequences of items in a file; one line per list, best item first.

A .csv file holds one sequence of item ids per line, oldest first, or the columns user,item in order of time under that
header. A .jsonl file holds one JSON list of item ids per line. Lists for sequences begin with the user or the line number.
"""

import csv
import io
import json
import sys
from pathlib import Path

from seqrec.cli import Parser, above_zero
from seqrec.utils.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Print a list per user or sequence."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("users", nargs="*", help="user ids as in the raw data")
    parser.add_argument(
        "--sequences", type=Path, metavar="FILE", help=".csv or .jsonl file of item ids as in the raw data"
    )
    parser.add_argument("--top", type=above_zero, default=10, help="items per list")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_args(arguments)
    if bool(given.users) == bool(given.sequences):
        parser.error("give either users or --sequences FILE")
    names, sequences = read_sequences(given.sequences) if given.sequences else (given.users, None)

    from seqrec.build import load
    from seqrec.evaluation.recommend import of_sequences, of_users, recommend

    experiment = load(given.run, data_dir=given.data_dir)
    if sequences is None:
        rows = of_users(experiment.dataset, names)
    else:
        rows, unknown = of_sequences(experiment.dataset, sequences, names)
        if unknown:
            print(f"{unknown} unknown item ids skipped", file=sys.stderr)
    lists = recommend(experiment.scorer, experiment.dataset, rows, given.top, experiment.fabric.device)
    for name, items in zip(names, lists, strict=True):
        print(name, *items, sep="\t")


def read_sequences(path: Path) -> tuple[list, list[list]]:
    """Return names (users or line numbers) and sequences of item ids. Raises UserError, with the line, for bad content."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8") from None
    if not text.strip():
        raise UserError(f"{path}: is empty; there must be a sequence of item ids per line")
    stream = io.StringIO(text, newline="")
    if path.suffix == ".jsonl":
        lines = [_json_list(path, *line) for line in enumerate(stream, 1)]
    else:
        reader = csv.reader(stream, strict=True, skipinitialspace=True)
        try:
            lines = list(reader)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: {error}") from None
    if path.suffix == ".jsonl" or lines[0] != ["user", "item"]:
        return list(range(1, len(lines) + 1)), lines
    by_user: dict[str, list[str]] = {}
    for number, row in enumerate(lines[1:], 2):
        if len(row) != 2:
            raise UserError(f"{path}:{number}: there must be a user and an item")
        by_user.setdefault(row[0], []).append(row[1])
    return list(by_user), list(by_user.values())


def _json_list(path: Path, number: int, line: str) -> list:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise UserError(f"{path}:{number}: must be a JSON list of item ids")
    return value
