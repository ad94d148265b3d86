"""The report's smaller tables: plain columns and rows, rendered by tables.py and page.py alike."""

from dataclasses import dataclass

import numpy as np

from seqrec.report import statistics
from seqrec.report.analysis import Report, Table
from seqrec.report.statistics import Floor

Value = str | int | float


@dataclass(frozen=True)
class Grid:
    """A table of strings and numbers; `name` is its file's, `note` says how to read it."""

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[Value]]


def slug(label: str) -> str:
    """Return a label as part of a file name."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in label)


def robustness(table: Table, floors: dict[tuple[str, str], Floor]) -> Grid:
    """Return drop and retention per ratio, area, slope and half point per row and metric, beside the noise floor."""
    noisy = [ratio for ratio in table.ratios if ratio]
    rows = []
    for row in table.rows:
        for metric in table.metrics:
            ratios, values = np.array(table.ratios), table.means(row, metric)
            if ratios[0] != 0:
                ratios, values = np.array([0, *ratios]), np.array([np.nan, *values])
            kept = statistics.retention(values)
            floor = floors[row.label, metric].mean if (row.label, metric) in floors else np.nan
            summary = (
                measure(ratios, values) for measure in (statistics.area, statistics.slope, statistics.half_point)
            )
            rows.append([row.label, metric, values[0], floor, *(1 - kept[1:]), *kept[1:], *summary])
    return Grid(
        f"robustness-{slug(table.label)}",
        "Robustness",
        "Drop (M(0) − M(r)) / M(0) and retention M(r) / M(0) against the row's own clean runs; area under M over r, divided "
        "by M(0) and the range of r (1 = nothing lost); least-squares slope of M(r) / M(0) on r; half point = the ratio at "
        "which half is left. A drop below the noise floor cannot be told from another seed. "
        "A row without all ratios has no area, slope and half point.",
        [
            *("row", "metric", "clean", "noise floor"),
            *(f"drop {r:g}" for r in noisy),
            *(f"retention {r:g}" for r in noisy),
            *("area", "slope", "half point"),
        ],
        rows,
    )


def gains(table: Table) -> Grid:
    """Return the gain over the baseline at every ratio, with the clean accuracy beside it."""
    rows = []
    for row in table.rows:
        reference = table.baselines.get(row.label)
        if reference is None:
            continue
        for metric in table.metrics:
            own, other = table.means(row, metric), table.means(reference, metric)
            clean = own[0] if table.ratios[0] == 0 else np.nan
            avoided = statistics.drop_avoided(own, other) if table.ratios[0] == 0 else np.full(len(own), np.nan)
            avoided = [value for ratio, value in zip(table.ratios, avoided, strict=True) if ratio]
            relative = own / np.where(other > 0, other, np.nan) - 1
            rows.append([row.label, reference.label, metric, clean, *(own - other), *relative, *avoided])
    return Grid(
        f"gain-{slug(table.label)}",
        "Gain over the baseline",
        "Gain M − M_b and relative gain M / M_b − 1 at each ratio, beside the clean accuracy: a bad model is robust too. "
        "Drop avoided = 1 − drop / drop of the baseline; it is empty where the baseline does not drop.",
        ["row", "baseline", "metric", "clean", *(f"gain {r:g}" for r in table.ratios)]
        + [f"relative gain {r:g}" for r in table.ratios]
        + [f"drop avoided {r:g}" for r in table.ratios if r],
        rows,
    )


def significance(table: Table) -> Grid:
    """Return the paired tests of a table."""
    rows = []
    for (label, ratio), (found, p) in table.comparisons.items():
        rows.append(
            [
                *(label, table.baselines[label].label, ratio, found.difference, found.effect, found.p, p),
                *(found.detectable, found.users, found.zeros),
            ]
        )
    return Grid(
        f"significance-{slug(table.label)}",
        f"Tests on {table.tested} per user",
        f"Wilcoxon's signed-rank test on {table.tested} per user, averaged over seeds, two-sided; users without a difference "
        "are dropped and counted. Holm corrects over all rows of this table. Effect: rank-biserial correlation. Detectable: "
        "the smallest mean difference found with 80 % power at the 5 % level. The tests are about users, not about "
        "seeds: see the noise floor.",
        [
            "row",
            "baseline",
            "ratio",
            "mean difference",
            "effect",
            "p",
            "p (Holm)",
            "detectable",
            "users",
            "no difference",
        ],
        rows,
    )


def noise_floor(report: Report) -> Grid:
    """Return what two seeds of the same clean runs differ by."""
    rows = [[*place, floor.pairs, floor.mean, floor.largest, floor.effect] for place, floor in report.floors.items()]
    return Grid(
        "noise-floor",
        "Noise floor between seeds",
        "The same measures between two seeds of the clean runs: |M_a − M_b| / mean of M over all pairs of seeds, its largest "
        "value, and the mean |effect| per user. A drop or an effect below it cannot be told from another seed.",
        ["row", "metric", "pairs", "drop, mean", "drop, largest", "effect"],
        rows,
    )


def left_out(report: Report) -> Grid:
    """Return the run directories that are not in the report."""
    rows = [[entry.path.as_posix(), entry.reason] for entry in report.left_out]
    return Grid("left-out", "Left out", "Run directories that enter no figure.", ["directory", "reason"], rows)
