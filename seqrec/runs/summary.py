"""The small table at the end of a run."""

from pathlib import Path

UNFUSED = (("validation", "valid"), ("test", "test"))


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
    place = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return "\n".join([*lines, f"{when}everything else is in {place}"])
