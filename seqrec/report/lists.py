"""Other systems' recommendations as rows of the report: lists of items, or ranks, under the protocol of our runs."""

from pathlib import Path

import numpy as np
import pandas as pd

from seqrec.config import digest
from seqrec.data.dataset import Dataset
from seqrec.data.split import EvalSplit
from seqrec.evaluation.metrics import parse, per_user, settle_ties
from seqrec.report.slices import split_of
from seqrec.runs.reader import Run
from seqrec.utils.checkpoint import damage_named
from seqrec.utils.errors import UserError

COLUMNS = {  # the first name that is there
    "user": ("user", "user_id", "user_id:token"),
    "item": ("item", "item_id", "item_id:token"),
    "order": ("rank", "score"),
}
SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}


class Listed(Run):
    """A system that seqrec did not run, as a clean run with the data and protocol of `reference`.

    `cannot` are the metrics that lists of a `length` do not give; None stands for ranks in the whole catalogue.
    """

    foreign = True

    def __init__(
        self, name: str, reference: Run, better: np.ndarray, equal: np.ndarray, length: int | None, metrics: list[str]
    ):
        self.__dict__ |= reference.__dict__
        better, equal = settle_ties(better, equal, reference.config["eval"]["ties"])
        cutoffs = {metric: parse(metric)[1] for metric in metrics}
        self.cannot = [metric for metric, k in cutoffs.items() if length is not None and not (k and k <= length)]
        self.values = {metric: per_user(metric, better, equal) for metric in metrics if metric not in self.cannot}
        self.test = {metric: float(values.mean()) for metric, values in self.values.items()}
        self.names = reference.names | {"method": name, "backbone": "none", "loss": "none"}
        self.setting, self.settings, self.variant, self.trained, self.prefixes = digest(name), {}, "", True, False
        self.noise, self.noise_setting, self.ratio, self.draw = {}, "", 0.0, (0, 0)
        self.history, self.position_profile = {}, {}
        self.warnings = (
            [f"{name}: lists of {length} items do not give {', '.join(self.cannot)}."] if self.cannot else []
        )


def read_lists(files: list[str], runs: list[Run], metrics: list[str], data_dir: str | None) -> list[Listed]:
    """Return a row's content for each FILE or NAME=FILE; without a name it is that of the file.

    Raises UserError where a name is that of a run's method or variant, and where the users, targets or items of a file
    are not those of `runs`: see docs/report.md.
    """
    reference, ours = runs[0], {name for run in runs for name in (run.names["method"], run.variant)}
    dataset, split, order = split_of(reference, data_dir)
    test = split.test.take(order)
    found: dict[str, Listed] = {}
    for given in files:
        name, _, path = given.rpartition("=")
        path = Path(path)
        name = name or path.name.partition(".")[0]
        if name in found or name in ours:
            raise UserError(f"--lists {given}: there is another '{name}'; give NAME=FILE")
        if path.name.endswith(".npz"):
            better, equal = _ranks(path, dataset, test)
            length = None
        else:
            better, equal, length = _lists(path, dataset, test, bool(reference.protocol["mask_history"]))
        found[name] = Listed(name, reference, better, equal, length, metrics)
    return list(found.values())


def _ranks(path: Path, dataset: Dataset, test: EvalSplit) -> tuple[np.ndarray, np.ndarray]:
    """Return better and equal [R] of a file like ranks_test.npz, in the order of the test users."""
    with damage_named(str(path), "give arrays user_id, target_id, better and equal, as in ranks_test.npz"):
        with np.load(path) as ranks:
            user, target, better, equal = (ranks[name] for name in ("user_id", "target_id", "better", "equal"))
        if not ((better >= 0).all() and (equal >= 1).all()):
            raise UserError(f"{path}: a rank is below 1: better must be at least 0 and equal at least 1")
        row = _rows(path, user, dataset, test)
        order = np.argsort(row)
        if len(row) != len(np.unique(row)):
            raise UserError(f"{path}: a user is there twice")
        differ = np.flatnonzero(target[order].astype(str) != dataset.item_ids[test.target].astype(str))
    if len(differ):
        at = differ[0]
        wanted = dataset.item_ids[test.target[at]]
        raise UserError(
            f"{path}: {len(differ)} of {len(row)} users have another target than in the runs; user "
            f"{dataset.user_ids[test.user[at]]} has {target[order][at]} there, {wanted} here: use the same split"
        )
    return better[order], equal[order]


def _lists(path: Path, dataset: Dataset, test: EvalSplit, masked: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Return better and equal [R] of a table of recommendations, and the length of its lists; a target that is not listed is a miss."""
    frame = _table(path)
    row = _rows(path, frame["user"].to_numpy(), dataset, test)
    item = pd.Index(dataset.item_ids[1:].astype(str)).get_indexer(frame["item"]) + 1
    _refuse(path, item == 0, frame, "recommends an item that is not in the data")
    cell = row * (dataset.num_items + 1) + item
    _refuse(path, pd.Series(cell).duplicated().to_numpy(), frame, "recommends an item a second time to the user")
    if masked:
        where, seen = test.history.pairs()
        hidden = np.isin(cell, where * (dataset.num_items + 1) + seen)
        _refuse(path, hidden, frame, "recommends an item of the user's history, which the protocol leaves out")
    lengths = np.bincount(row, minlength=len(test.user))
    if lengths.min() != lengths.max():
        raise UserError(
            f"{path}: lists of {lengths.min()} to {lengths.max()} items (user {dataset.user_ids[test.user[lengths.argmin()]]} "
            "has the shortest); all must be of one length: cut them to the shortest"
        )
    value = frame["value"].to_numpy()
    own = np.full(len(test.user), np.nan)
    at_target = item == test.target[row]
    own[row[at_target]] = value[at_target]
    listed = ~np.isnan(own)
    better, equal = (np.bincount(row[chosen], minlength=len(own)) for chosen in (value > own[row], value == own[row]))
    return np.where(listed, better, dataset.num_items), np.where(listed, equal, 1), int(lengths[0])


def _table(path: Path) -> pd.DataFrame:
    """Return columns user and item as texts, and value: higher is better."""
    ending = next((ending for ending in SEPARATORS if path.name.endswith(ending)), None)
    if ending is None:
        raise UserError(f"--lists {path}: must end in .npz or one of {', '.join(SEPARATORS)}")
    with damage_named(str(path), "give a table with a header"):
        frame = pd.read_csv(path, sep=SEPARATORS[ending], dtype=str, keep_default_na=False, encoding="utf-8-sig")
    chosen = {key: next((name for name in names if name in frame), None) for key, names in COLUMNS.items()}
    for key, name in chosen.items():
        if name is None:
            raise UserError(f"{path}: no column {' or '.join(COLUMNS[key])}; there are {', '.join(map(str, frame))}")
    value = pd.to_numeric(frame[chosen["order"]], errors="coerce").to_numpy(float)
    made = pd.DataFrame({"user": frame[chosen["user"]], "item": frame[chosen["item"]], "value": value})
    _refuse(path, ~np.isfinite(value), made, f"has a {chosen['order']} that is no number")
    return made.assign(value=-value) if chosen["order"] == "rank" else made


def _rows(path: Path, users: np.ndarray, dataset: Dataset, test: EvalSplit) -> np.ndarray:
    """Return the test row of each of the raw user ids [N]; all test users must be there, and no others."""
    row = pd.Index(dataset.user_ids[test.user].astype(str)).get_indexer(users.astype(str))
    if (row < 0).any():
        raise UserError(
            f"{path}: user {users[row < 0][0]} is none of the {len(test.user)} test users of the runs "
            f"(their ids look like {dataset.user_ids[test.user[0]]})"
        )
    missing = np.setdiff1d(np.arange(len(test.user)), row)
    if len(missing):
        first = dataset.user_ids[test.user[missing[0]]]
        raise UserError(f"{path}: {len(missing)} of {len(test.user)} test users are missing, the first is {first}")
    return row


def _refuse(path: Path, bad: np.ndarray, frame: pd.DataFrame, problem: str) -> None:
    if bad.any():
        line = int(bad.argmax())
        user, item = frame["user"][line], frame["item"][line]
        raise UserError(f"{path}:{line + 2}: {problem} (user {user}, item {item}); {int(bad.sum())} such lines")
