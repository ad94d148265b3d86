"""Rows of results/*.csv, made from complete run directories and from the files of benchmarks.

A run is identified by the hash of its configuration, and by `setting`, which is the same for all seeds. Both are stored when the run
is recorded, with its command, so that a later change of a default does not change the meaning of an old row.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd

from seqrec.config import NOT_HASHED
from seqrec.report.committed import METRICS
from seqrec.report.statistics import DRAWS, compare, resampled
from seqrec.report.tables import read_csv, write_csv
from seqrec.runs.reader import LeftOut, Run, read_runs
from seqrec.utils.checkpoint import damage_named
from seqrec.utils.errors import UserError

COMPARED = ("HR@10", "NDCG@10")
CELL = ("attack", "position", "k", "ratio", "draws")  # identify a cell of a robustness.json
SAME_RUN = ("setting", "noise_setting", "ratio", "seed")
NOT_SHOWN = {"seed", "hydra.run.dir", "hydra.sweep.dir", *NOT_HASHED} - {"variant"}


def finished(folders: list[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Read the complete run directories at or below folders; returns the first of each setting, noise and seed, and the others.

    A run whose noise has a seed of its own is among the others: rows are paired by their seed.

    Raises UserError if there are folders, but no run in them.
    """
    runs, left_out = read_runs(folders, list(COMPARED))
    first = {}
    for run in runs:
        if run.noise and run.noise_seed != run.seed:
            left_out.append(LeftOut(run.path, f"noise.seed={run.noise_seed}: a row's noise has the seed of the run"))
            continue
        kept = first.setdefault((run.setting, run.noise_setting, run.ratio, run.seed), run)
        if kept is not run:
            left_out.append(LeftOut(run.path, f"has the setting, noise and seed of {kept.path}"))
    if folders and not runs:
        raise UserError(f"{', '.join(map(str, folders))}: no finished run at or below")
    return list(first.values()), left_out


def command_of(manifest: dict, fused: bool = True) -> str:
    """Return the arguments of train.py as given, without the seed and keys that change no result; paths are shortened to their names.

    A run that is not `fused` may have been trained by the command of one that is: the keys of fusion are left out then.
    """
    given = manifest.get("overrides") or [word for word in manifest["command"][1:] if "=" in word]
    keys = [argument.partition("=")[0].lstrip("+~") for argument in given]
    hidden = {key for key in keys if key in NOT_SHOWN or (not fused and key.partition(".")[0] == "fusion")}
    shown = [argument for key, argument in zip(keys, given, strict=True) if key not in hidden]
    return " ".join(shlex.quote(re.sub(r"=/\S*/", "=.../", argument)) for argument in shown)


def run_row(run: Run) -> dict[str, object]:
    """Return the row of a run in runs.csv; a metric that was not computed is left empty."""
    manifest = run.manifest
    row = {
        "configuration": manifest["config_hash"],
        "setting": run.setting,
        "seed": run.seed,
        "command": command_of(manifest, fused="_target_" in run.config.get("fusion", {})),
        "dataset": run.names["dataset"],
        "noise": run.noise.get("name", "none"),
        "noise_setting": run.noise_setting,
        "ratio": f"{run.ratio:g}",
        **{group: run.names[group] for group in ("backbone", "loss", "method")},
        "width": run.config["dim"],
        "parameters": manifest["parameters"],
        "epochs": manifest["epochs"],
        "best_epoch": run.best_epoch,
        **{name: manifest[name] for name in ("stopped", "train_seconds", "wall_seconds")},
        "machine": machine_of(manifest),
        "threads": manifest["threads"],
        "commit": manifest["git_commit"],
        "data_sha256": manifest["data_sha256"],
    }
    for split, values in (("valid", run.valid), ("test", run.test)):
        row |= {f"{split} {name}": round(values[name], 6) if name in values else None for name in METRICS}
    return row


def training_row(run: Run) -> dict[str, object]:
    """Return the values that a run logged in its best epoch, for training.csv."""
    logged = {name: dict(zip(*run.history[name], strict=True)).get(run.best_epoch) for name in run.history}
    values = {name: value for name, value in logged.items() if name.startswith("train/") and value is not None}
    return {"configuration": run.manifest["config_hash"], "epoch": run.best_epoch, **rounded(values)}


def perturbed_rows(run: Run) -> list[dict[str, object]]:
    """Return a row per cell of a run's robustness.json, if there is one, for perturbed.csv.

    Raises UserError if it is damaged, or about another split than the test set.
    """
    path = run.path / "robustness.json"
    if not path.exists():
        return []
    rows = []
    with damage_named(str(path), "run scripts/robustness.py again"):
        found = json.loads(path.read_text())
        if found["part"] != "test":
            raise UserError(f"{path}: it is about --part {found['part']}; only the test set is recorded")
        facts = {name: found[name] for name in ("source", "power", "where", "last", "window", "cutoff")}
        facts["perturbation seed"] = found["seed"]
        start = {"configuration": run.manifest["config_hash"]}
        for cell in found["cells"]:
            deviations = {f"{name} sd": value for name, value in cell["std"].items()}
            rows.append(start | {name: cell.get(name) for name in CELL} | facts | rounded(cell["mean"] | deviations))
    return rows


def detection_rows(run: Run) -> list[dict[str, object]]:
    """Return the rows of a run's noise_detection.csv, if there is one, for detection.csv; raises UserError if it is damaged."""
    path = run.path / "noise_detection.csv"
    with damage_named(str(path), "run scripts/noise_detection.py again"):
        rows = read_csv(path).to_dict("records") if path.exists() else []
    return [{"configuration": run.manifest["config_hash"], **row} for row in rows]


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    """Return numbers with six significant digits."""
    return {name: None if value is None else float(f"{value:.6g}") for name, value in values.items()}


def benchmark_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of a file of `scripts/benchmark.py --json`, for benchmarks.csv: a row per system.

    Its ratios are those of the first system to this one. Raises UserError for another file.
    """
    try:
        result = json.loads(path.read_text())
        _ = result["systems"], result["ratios"], result["arguments"]
    except (LookupError, TypeError, ValueError):
        raise UserError(f"{path}: must be a file of scripts/benchmark.py --json, made without --processes") from None
    facts = {
        "machine": machine_of(result),
        "threads": result["threads"],
        "commit": result["git_commit"],
        "start_to_first_step": round(result["start_to_first_step"], 2),
    }
    rows = []
    for system in result["systems"]:
        figures = {name: value for name, value in system.items() if name not in ("name", "epochs", "evaluations")}
        ratios = {f"{name} ratio": value for name, value in result["ratios"].get(system["name"], {}).items()}
        start = {"command": " ".join(result["arguments"]), "system": system["name"]}
        rows.append(start | rounded(figures | ratios) | facts)
    return rows


def machine_of(manifest: dict) -> str:
    """Return the processor or accelerator and the number of cores."""
    machine = manifest["machine"]
    return machine["processor"] + (f", {machine['cores']} cores" if "cores" in machine else "")


def gain_rows(runs: list[Run], setting: str, against: str, noise_setting: str, ratio: str) -> list[dict[str, object]]:
    """Compare two settings under a noise on the seeds that both have, for gains.csv; empty if there are none.

    The gain is relative, of metrics per user averaged over seeds, with a 95 % interval by bootstrap over users and
    Wilcoxon's p. Raises UserError if the two were not evaluated alike.
    """
    here = [run for run in runs if (run.noise_setting, f"{run.ratio:g}") == (noise_setting, ratio)]
    ours, theirs = ({run.seed: run for run in here if run.setting == side} for side in (setting, against))
    seeds = sorted(set(ours) & set(theirs))
    sides = [[runs_of[seed] for seed in seeds] for runs_of in (ours, theirs)]
    for run in (*sides[0], *sides[1]):
        if run.protocol != sides[0][0].protocol:
            raise UserError(f"{run.path} and {sides[0][0].path} were evaluated on other data or by other rules")
    rows = []
    for metric in (name for name in COMPARED if seeds and name in sides[0][0].values):
        own, other = (np.mean([run.values[metric] for run in side], axis=0) for side in sides)
        drawn = resampled(np.stack([own, other], axis=1), DRAWS, seed=0)
        low, high = np.quantile(drawn[:, 0] / drawn[:, 1] - 1, [0.025, 0.975])
        rows.append(
            {
                "setting": setting,
                "against": against,
                "noise": sides[0][0].noise.get("name", "none"),
                "noise_setting": noise_setting,
                "ratio": ratio,
                "seeds": " ".join(map(str, seeds)),
                "metric": metric,
                "gain": round(own.mean() / other.mean() - 1, 6),
                "low": round(low, 6),
                "high": round(high, 6),
                "p": f"{compare(own, other)['p']:.3g}",
                "users": len(own),
            }
        )
    return rows


def merge(path: Path, rows: list[dict[str, object]], keys: tuple[str, ...], owner: tuple[str, ...] = ()) -> int:
    """Replace the rows with the same keys in a CSV file; returns how many rows are new or changed.

    Rows that have the same `owner` columns as a new row are replaced as a whole. The file is sorted by command, if it has one,
    and keys, and written whole or not at all.
    """
    old = read_csv(path) if path.exists() else pd.DataFrame(columns=list(keys))
    new = pd.DataFrame(rows, dtype=object)
    new = new.where(new.notna(), "").map(str).drop_duplicates(list(keys), keep="last")
    same = list(owner or keys)
    gone = pd.MultiIndex.from_frame(old[same]).isin(pd.MultiIndex.from_frame(new[same]))
    columns = list(dict.fromkeys([*old, *new]))
    old, new = (frame.reindex(columns=columns, fill_value="") for frame in (old, new))
    order = [name for name in dict.fromkeys(("command", "seed", *keys)) if name in columns]
    whole = pd.concat([old[~gone], new])
    write_csv(path, whole.sort_values(order, key=lambda column: column.map(_numbers_as_numbers), kind="stable"))
    before = set(old.itertuples(index=False, name=None))
    return sum(row not in before for row in new.itertuples(index=False, name=None))


def _numbers_as_numbers(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else 0, text)
