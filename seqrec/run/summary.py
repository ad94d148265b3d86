"""The small table at the end of a run."""

from pathlib import Path


def results_table(metrics: dict, path: Path) -> str:
    """Return validation and test metrics as aligned text, and where the rest is."""
    names = list(metrics["test"])
    lines = [" " * 12 + "".join(f"{name:>9}" for name in names)]
    for title, part in (("validation", "valid"), ("test", "test")):
        lines.append(f"{title:<12}" + "".join(f"{metrics[part][name]:>9.4f}" for name in names))
    when = f"best epoch {metrics['best_epoch']}, " if metrics["best_epoch"] else ""
    place = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return "\n".join([*lines, f"{when}everything else is in {place}"])
