"""The leaderboard: the best recorded setting of each method, backbone and loss, by data set and noise."""

import json
import shlex

import pandas as pd

from seqrec.report.committed import METRICS, Results
from seqrec.report.tables import markdown

BY = "valid NDCG@10"  # chooses among the settings of a combination, and nothing else
PROTOCOL = ("split", "eval", "dataset.")  # arguments that change data, split or evaluation
COMPARED, SHOWN = 2, 10  # entries that a board needs and shows on the page; the file has all
BOARD = ["dataset", "data_sha256", "protocol", "noise", "noise_setting", "ratio"]
COMBINATION = ["method", "backbone", "loss"]


def entries(results: Results) -> list[dict]:
    """Return an entry per board (data set, protocol, noise) and combination, the best test NDCG@10 of a board first.

    `trials` counts the recorded settings of which it is the best on validation; others may have been tried and not recorded.
    """
    runs = results.files.get("runs", pd.DataFrame(columns=[*BOARD, *COMBINATION, "setting", "command"]))
    runs = runs.assign(protocol=runs.command.map(protocol_of))
    found = []
    for key, group in runs.groupby([*BOARD, *COMBINATION], sort=True):
        settings = dict(list(group.groupby("setting")))
        best = max(settings.values(), key=lambda seeds: pd.to_numeric(seeds[BY]).fillna(0).mean())
        entry = dict(zip([*BOARD, *COMBINATION], key, strict=True))
        metrics = {
            f"{split} {name}": spread(best[f"{split} {name}"]) for split in ("valid", "test") for name in METRICS
        }
        found.append(
            {
                **entry,
                "setting": best.setting.iloc[0],
                "command": results.commands.get(best.setting.iloc[0], ""),
                "seeds": sorted(map(int, best.seed)),
                "trials": len(settings),
                "minutes": round(pd.to_numeric(best.train_seconds).mean() / 60, 2),
                "machine": best.machine.iloc[0],
                "commit": best.commit.iloc[0],
                "metrics": {name: value for name, value in metrics.items() if value},
            }
        )
    return sorted(found, key=place)


def protocol_of(command: str) -> str:
    """Return the arguments of a command that change data, split or evaluation."""
    words = [word.lstrip("+") for word in shlex.split(command)]
    return " ".join(word for word in words if word.startswith(PROTOCOL) and not word.startswith("dataset="))


def spread(values: pd.Series) -> dict[str, float]:
    """Return mean and standard deviation (n - 1) over seeds; {} where a run lacks the value, no deviation for one seed."""
    if not values.all():
        return {}
    numbers = pd.to_numeric(values)
    deviation = {"deviation": round(float(numbers.std()), 6)} if len(numbers) > 1 else {}
    return {"mean": round(float(numbers.mean()), 6), **deviation}


def place(entry: dict) -> tuple:
    """Return what entries are sorted by: the board, clean ones first, then test NDCG@10."""
    board = (entry["dataset"], entry["data_sha256"], entry["protocol"], float(entry["ratio"]), entry["noise"])
    return (*board, entry["noise_setting"], -entry["metrics"].get("test NDCG@10", {"mean": 0.0})["mean"])


def as_json(found: list[dict]) -> str:
    """Return the entries as the text of leaderboard.json."""
    return "[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n"  # a line per entry, so that changes are easy to read


def leaderboard(results: Results, _spec: dict) -> str:
    """Return a heading and a table of the first entries for each board that compares anything."""
    parts, boards = [], {}
    for entry in entries(results):
        boards.setdefault(tuple(entry[name] for name in BOARD), []).append(entry)
    for (dataset, _, protocol, noise, _, ratio), board in boards.items():
        if len(board) < COMPARED:
            continue
        title = f"{dataset}, {f'{noise} {ratio}' if float(ratio) else 'clean'}{f' ({protocol})' if protocol else ''}"
        parts.append(f"### {title}\n\n{markdown(pd.DataFrame([line(entry) for entry in board[:SHOWN]]))}")
    return "\n" + "\n".join(parts) + "\n"


def line(entry: dict) -> dict[str, str]:
    """Return the cells of an entry."""
    shown = {}
    for metric in ("test NDCG@10", "test HR@10", "valid NDCG@10"):
        value = entry["metrics"].get(metric, {})
        deviation = f" ± {value['deviation']:.4f}".replace(" 0.", " .") if "deviation" in value else ""
        shown[metric.replace("valid", "validation")] = (
            f"{value['mean']:.4f}".removeprefix("0") + deviation if value else ""
        )
    return {
        **{name: entry[name] for name in COMBINATION},
        **shown,
        "seeds": str(len(entry["seeds"])),
        "trials": str(entry["trials"]),
        "minutes": f"{entry['minutes']:.1f}",
        "commit": entry["commit"][:8],
    }
