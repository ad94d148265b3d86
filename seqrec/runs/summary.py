"""The small table at the end of a run, and that of a sweep."""

import json
from pathlib import Path

UNFUSED = (("validation", "valid"), ("test", "test"))
SHOWN_OF_TEST = {"HR@10": "test HR@10", "NDCG@10": "test NDCG@10"}


def results_table(metrics: dict, path: Path) -> str:
    """Return validation and test metrics as aligned text, with the path of the run directory."""
    names = list(metrics["test"])
    widths = [max(9, len(name) + 2) for name in names]
    left = 21 if "unfused" in metrics else 12
    lines = [" " * left + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    rows = {"validation": metrics["valid"], "test": metrics["test"]}
    rows |= {f"{title}, unfused": metrics["unfused"][key] for title, key in UNFUSED if "unfused" in metrics}
    for title, part in rows.items():
        values = [f"{part[name]:.4f}" if name in part else "" for name in names]
        lines.append(
            f"{title:<{left}}" + "".join(f"{text:>{width}}" for text, width in zip(values, widths, strict=True))
        )
    when = f"best epoch {metrics['best_epoch']}, " if metrics["best_epoch"] else ""
    return "\n".join([*lines, f"{when}everything else is in {_short(path)}"])


def sweep_table(records: list[dict]) -> str:
    """Return a line per job of a sweep as aligned text, and the reasons of those that are not complete.

    A record has `overrides`, `status`, `monitor`, `directory`, the `state` of a trial, and a `value` or an `error`. Overrides
    that all jobs share are not shown.
    """
    shared = set.intersection(*(set(record["overrides"]) for record in records)) if len(records) > 1 else set()
    names = [" ".join(part for part in record["overrides"] if part not in shared) for record in records]
    lines = [("run", "status", f"valid {records[0]['monitor']}", *SHOWN_OF_TEST.values(), "directory")]
    for name, record in zip(names, records, strict=True):
        folder = Path(record["directory"])
        done = record["status"] == "complete" and (folder / "DONE").exists()
        test = json.loads((folder / "metrics.json").read_text())["test"] if done else {}
        values = [record.get("value"), *(test.get(metric) for metric in SHOWN_OF_TEST)]
        figures = ["" if value is None else f"{value:.4f}" for value in values]
        status = record["state"] if record["status"] == "complete" else record["status"]
        lines.append((name, status, *figures, str(_short(folder))))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    bad = [(name, record) for name, record in zip(names, records, strict=True) if record["status"] != "complete"]
    return "\n".join([*text, *(f"{record['status']}: {name}: {record['error']}" for name, record in bad)])


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
