"""Which runs are comparable and form one row, the name of a row, and its baseline."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from seqrec.runs.reader import LeftOut, Run

CHOICES = ("backbone", "loss")  # their settings are compared among the rows with the same choice
# or belongs to a choice that has one
HAS_A_COLUMN = ("method.", "fusion.", *(f"{name}." for name in CHOICES), "trainer.prefixes")


@dataclass
class Row:
    """Runs that differ in seed and noise alone."""

    method: str
    backbone: str
    loss: str
    prefixes: bool
    variant: str
    trained: bool
    foreign: bool  # of another system: there is nothing to know of its settings
    settings: dict[str, object]
    differs: str = ""  # settings that distinguish the row from others of the same name
    label: str = ""  # short and unique
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> tuple:
        """The columns that name a row; rows with the same name are distinguished by `differs`."""
        return self.method, self.backbone, self.loss, self.prefixes, self.variant

    def is_named(self, baseline: str) -> bool:
        """Whether the row is a baseline of that name: a variant, or a method without variant."""
        return (self.variant or self.method) == baseline

    def at(self, noise: dict, ratio: float) -> list[Run]:
        """Return the runs at a ratio of a noise setting; the clean ones are ratio 0 of every setting."""
        return [run for run in self.runs if run.ratio == ratio and (not ratio or run.noise == noise)]

    def mean(self, noise: dict, ratio: float, metric: str) -> np.ndarray | None:
        """Return a metric per user, averaged over the runs at a ratio, [R]; None where there is no run with it."""
        values = [run.values[metric] for run in self.at(noise, ratio) if metric in run.values]
        return np.mean(values, axis=0) if values else None


def differing(settings: Iterable[dict]) -> list[str]:
    """Return the keys in which dictionaries differ, sorted; a key that one of them lacks counts."""
    settings = list(settings)
    keys = sorted(set().union(*settings))
    return [key for key in keys if len({json.dumps(entry.get(key, "not there")) for entry in settings}) > 1]


def comparable(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Separate the runs of the most common protocol (the first one of equally common ones) from the rest."""
    keys = [json.dumps(run.protocol, sort_keys=True) for run in runs]
    commonest = Counter(keys).most_common(1)[0][0] if keys else ""
    left_out = [
        LeftOut(run.path, f"not comparable: {_difference(run.protocol, json.loads(commonest))}")
        for run, key in zip(runs, keys, strict=True)
        if key != commonest
    ]
    return [run for run, key in zip(runs, keys, strict=True) if key == commonest], left_out


def _difference(protocol: dict, commonest: dict) -> str:
    differing = [key for key in commonest if protocol[key] != commonest[key]]
    if differing == ["users"]:
        return "other users or targets in ranks_test.npz than most runs"
    return "; ".join(f"{key} is {protocol[key]}, in most runs {commonest[key]}" for key in differing if key != "users")


def distinct(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Separate the first run of each setting, noise and seed from its repetitions."""
    first, left_out = {}, []
    for run in runs:
        kept = first.setdefault((run.setting, run.noise_setting, run.ratio, run.draw), run)
        if kept is not run:
            left_out.append(LeftOut(run.path, f"repeats {kept.path}"))
    return list(first.values()), left_out


def rows_of(runs: list[Run], baseline: str) -> list[Row]:
    """Group the runs into rows: untrained methods first, then the baseline, then the others by name."""
    rows: dict[tuple, Row] = {}
    for run in runs:
        names = (run.names[group] for group in ("method", "backbone", "loss"))
        row = Row(*names, run.prefixes, run.variant, run.trained, run.foreign, run.settings)
        row = rows.setdefault((run.setting, run.prefixes), row)
        row.runs.append(run)
        if not run.variant:  # a variant that changes nothing is the method itself
            row.variant = ""
    found = list(rows.values())
    _tell_apart(found)
    _label(found)
    return sorted(found, key=lambda row: (row.trained, not row.is_named(baseline), row.method, row.label))


def _tell_apart(rows: list[Row]) -> None:
    """Fill `differs`: all keys in which rows of one name differ, and shared settings that are not the most common ones.

    A variant's changes are represented by its name.
    """
    plain = [row for row in rows if row.trained and not row.variant and not row.foreign]
    for row in rows:
        keys = differing(other.settings for other in rows if other.name == row.name)
        if row.trained and not row.variant and not row.foreign:
            keys += [key for key in _unusual(row, plain) if not key.startswith(HAS_A_COLUMN)]
            for name in CHOICES:
                peers = [other for other in plain if getattr(other, name) == getattr(row, name)]
                keys += [key for key in _unusual(row, peers) if key.startswith(f"{name}.")]
        row.differs = ", ".join(f"{key}={row.settings.get(key, 'none')}" for key in sorted(set(keys)))


def _unusual(row: Row, rows: list[Row]) -> list[str]:
    """Return the settings of a row that are not the most common ones among rows (the first one of equally common ones)."""
    unusual = []
    for key in differing(other.settings for other in rows):
        values = [json.dumps(other.settings.get(key)) for other in rows]
        if json.dumps(row.settings.get(key)) != Counter(values).most_common(1)[0][0]:
            unusual.append(key)
    return unusual


def _label(rows: list[Row]) -> None:
    trained = [row for row in rows if row.trained and not row.foreign]
    shown = [name for name in ("backbone", "loss") if len({getattr(row, name) for row in trained}) > 1]
    prefixes = len({row.prefixes for row in trained}) > 1
    for row in rows:
        parts = [row.method, *(getattr(row, name) for name in shown if row in trained), row.variant]
        parts += ["prefixes"] * (prefixes and row.prefixes) + [row.differs]
        row.label = " · ".join(part for part in parts if part)


def baseline_of(row: Row, rows: list[Row], baseline: str) -> Row | None:
    """Return the baseline that `row` is to be compared with, or None.

    It has the same backbone, loss and prefixes, and of several such rows the most settings in common; where there is
    one baseline alone, all other rows are compared with it.
    """
    named = [other for other in rows if other.is_named(baseline)]
    if row in named:
        return None
    if len(named) > 1 and not row.foreign:
        named = [other for other in named if other.name[1:4] == row.name[1:4]]
    return min(named, key=lambda other: len(differing([other.settings, row.settings])), default=None)


def noises_of(runs: list[Run]) -> dict[str, dict]:
    """Return the noise settings of the runs by their label: the operator, and what distinguishes settings of one operator."""
    settings = []
    for run in runs:
        if run.noise and run.noise not in settings:
            settings.append(run.noise)
    labels = {}
    for noise in settings:
        keys = differing(other for other in settings if other["name"] == noise["name"])
        labels[" ".join([noise["name"], *(f"{key}={noise.get(key, 'none')}" for key in keys)])] = noise
    return dict(sorted(labels.items()))
