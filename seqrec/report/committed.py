"""The committed results: the rows of results/*.csv, and the tables of results/tables.yaml."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from seqrec.report.tables import read_csv
from seqrec.utils.errors import UserError

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "MRR")
CLEAN = ("", "0")  # no noise setting, ratio 0


class Wanted:
    """The tables of results/tables.yaml by name, their rows completed from the named settings."""

    def __init__(self, path: Path):
        content = yaml.safe_load(path.read_text())
        self.noises, self.settings = content.get("noises", {}), content.get("settings", {})
        self.commands = content.get("commands", {})
        self.tables = {
            name: spec | {"rows": [self.row(row) for row in spec["rows"]]} for name, spec in content["tables"].items()
        }

    def row(self, row: str | dict) -> dict:
        """Return a row of a table, or a setting by its name, completed from the named settings; raises UserError for an unknown name."""
        row = {"run": row} if isinstance(row, str) else row
        row = {"against": (), "reported": ""} | (self._known(row["run"]) if "run" in row else {}) | row
        return row | {"against": [self._known(name) for name in row["against"]]}

    def _known(self, name: str) -> dict:
        if name not in self.settings:
            raise UserError(f"results/tables.yaml: {name}: no such name under settings")
        return self.settings[name]

    def noise(self, spec: dict, ratio: float) -> tuple[str, str]:
        """Return the hash of the noise and the ratio as runs.csv has them; clean data are ratio 0 of any noise."""
        return (self.noises[spec["noise"]], f"{ratio:g}") if ratio else CLEAN

    def comparisons(self) -> list[tuple[str, str, str, str]]:
        """Return the comparisons that tables show: the setting, the one it is compared with, hash and ratio of the noise."""
        pairs = {
            (row["setting"], other["setting"], *self.noise(spec, ratio)): None
            for spec in self.tables.values()
            if spec["kind"] in ("runs", "gains")
            for row in spec["rows"]
            for other in row["against"]
            for ratio in spec.get("ratios", (0,))
        }
        return list(pairs)


class Results:
    """The rows of results/*.csv; a missing file has none."""

    def __init__(self, folder: Path, wanted: Wanted):
        self.wanted, self.commands = wanted, {}
        self.files = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
        runs = self.files.get("runs", pd.DataFrame(columns=["setting", "noise_setting", "ratio", "seed"]))
        runs = runs.assign(seed=runs.seed.astype(int)).sort_values(
            ["noise_setting", "ratio", "seed"]
        )  # clean ones first
        for run in runs.itertuples():
            self.commands.setdefault(run.setting, run.command)
        self.by_setting = dict(list(runs.groupby(["setting", "noise_setting", "ratio"])))
        self.gains = {}
        for row in self.files.get("gains", pd.DataFrame()).to_dict("records"):
            key = tuple(row[name] for name in ("setting", "against", "noise_setting", "ratio", "metric"))
            self.gains[key] = row

    def runs(self, setting: str, noise: tuple[str, str] = CLEAN) -> pd.DataFrame:
        """Return the runs of a setting under a noise, a row per seed."""
        return self.by_setting.get((setting, *noise), pd.DataFrame())

    def rows(self, file: str, setting: str, **values: object) -> pd.DataFrame:
        """Return the rows of a file on the clean runs of a setting that have the given values."""
        runs, rows = self.runs(setting), self.files.get(file)
        if rows is None or not len(runs):
            return pd.DataFrame()
        found = having(rows, values)
        return found[found.configuration.isin(runs.configuration)]

    def command(self, setting: str) -> str:
        """Return arguments of train.py as a cell of a table: those of tables.yaml, or those of the first run of the setting."""
        command = self.wanted.commands.get(setting) or self.commands.get(setting)
        return f"`{command}`" if command else ""

    def gain(self, setting: str, against: str, noise: tuple[str, str], metric: str) -> dict[str, str] | None:
        """Return the row of gains.csv that compares two settings, its `note` naming the seeds where both sides have more."""
        row = self.gains.get((setting, against, *noise, metric))
        ours, theirs = (set(map(str, self.runs(side, noise).get("seed", ()))) for side in (setting, against))
        if row is None or not set(row["seeds"].split()) <= ours & theirs:  # of other seeds than the other rows
            return None
        return row | {"note": "" if set(row["seeds"].split()) == ours & theirs else f" (seeds {row['seeds']})"}


def having(frame: pd.DataFrame, values: dict[str, object]) -> pd.DataFrame:
    """Return the rows that have the given values."""
    return frame[np.all([frame[name] == str(value) for name, value in values.items()], axis=0)] if values else frame
