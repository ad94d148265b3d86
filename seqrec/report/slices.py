"""Accuracy by length of the history and by popularity of the target, where the data can be found."""

from itertools import pairwise

import numpy as np
import pandas as pd

from seqrec.data.dataset import Dataset
from seqrec.data.split import Split
from seqrec.report.analysis import Report
from seqrec.report.grids import Grid
from seqrec.runs.directory import RunDir
from seqrec.runs.reader import Run, ranks_of
from seqrec.utils.errors import UserError

LENGTHS = (1, 5, 10, 20, 50)  # first length of each slice
COUNTS = (0, 1, 5, 20, 100)  # first count of each slice


def split_of(run: Run, data_dir: str | None) -> tuple[Dataset, Split, np.ndarray]:
    """Return the data of a run, its split without noise, and the order in which its test users ascend.

    Raises UserError if the data is missing or differs from that of the run. Nothing is downloaded.
    """
    from seqrec.build import source_of_run
    from seqrec.utils.instantiate import make

    data_dir = data_dir or run.config["data_dir"]
    dataset = source_of_run(RunDir(run.path), run.config, data_dir).load(data_dir, None)
    RunDir(run.path).refuse_other_data(dataset.sha256)
    split = make(run.config["split"])(dataset)
    user, target, *_ = ranks_of(run.path)
    order = np.argsort(split.test.user, kind="stable")
    if not (np.array_equal(split.test.user[order], user) and np.array_equal(split.test.target[order], target)):
        raise UserError(f"'{dataset.name}' gives other test users or targets than the runs had")
    return dataset, split, order


def slice_of(values: np.ndarray, edges: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Return the number of the slice of each value [R], and the slices' names; `edges` are their first values."""
    names = [str(first) if after == first + 1 else f"{first} to {after - 1}" for first, after in pairwise(edges)]
    names.append(f"{edges[-1]} or more")
    return np.searchsorted(edges, values, side="right") - 1, names


def sliced(report: Report, title: str, name: str, values: np.ndarray, edges: tuple[int, ...]) -> Grid:
    """Return the tested metric per slice, at the clean end and at the highest ratio of every noise setting."""
    number, names = slice_of(values, edges)
    users = np.bincount(number, minlength=len(edges))
    filled = np.flatnonzero(users)
    rows = {}
    for table in report.tables:
        for ratio in sorted({table.ratios[0], table.ratios[-1]}):
            for row in table.rows:
                means = row.mean(table.noise, ratio, report.tested)
                if means is not None:
                    sums = np.bincount(number, weights=means, minlength=len(edges))
                    rows[row.label, table.label if ratio else "clean", ratio] = sums[filled] / users[filled]
    columns = ["row", "noise", "ratio", *(f"{names[slot]} (n={users[slot]:,})" for slot in filled)]
    return Grid(
        f"slices-{name}",
        f"{report.tested} by {title}",
        f"Mean {report.tested} of the users in each slice, clean and at the highest ratio.",
        pd.DataFrame([[*key, *values] for key, values in rows.items()], columns=columns),
    )


def slices(report: Report, data_dir: str | None) -> tuple[list[Grid], str]:
    """Return the tables of slices, or none and the reason."""
    try:
        dataset, split, order = split_of(report.runs[0], data_dir)
    except (UserError, OSError) as error:
        return [], f"Slices by history and popularity are left out: {error}"
    test, counts = split.test.take(order), split.train.item_counts(dataset.num_items)
    return [
        sliced(report, "items in the history", "history", test.history.lengths, LENGTHS),
        sliced(report, "interactions of the target in the training set", "popularity", counts[test.target], COUNTS),
    ], ""
