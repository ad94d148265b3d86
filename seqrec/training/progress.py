"""Progress of training: a bar, and a line per epoch."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger("seqrec")


def validation_metrics(entry: dict) -> dict[str, float]:
    """Return the validation metrics of an entry of the history, by name: {"HR@10": ...}."""
    return {name.removeprefix("valid/"): value for name, value in entry.items() if name.startswith("valid/")}


class Progress:
    """A tqdm bar with the live loss and targets per second; None shows it on terminals only.

    The line of an epoch has the metrics whose cutoff is that of the monitored one.
    """

    def __init__(self, bar: bool | None, monitor: str):
        self.disable = None if bar is None else not bar
        self.cutoff = monitor.partition("@")[2]

    @contextmanager
    def epoch(self, epoch: int, steps: int, first: int) -> Iterator["Bar"]:
        """Show the bar of an epoch (from 0) that has done `first` of its steps."""
        with (
            logging_redirect_tqdm([log]),
            tqdm(total=steps, initial=first, desc=f"epoch {epoch + 1}", leave=False, disable=self.disable) as bar,
        ):
            yield Bar(bar)

    def report(self, entry: dict, best: bool) -> None:
        """Print the line of a finished epoch; a star marks the best one so far."""
        metrics = [
            f"{name} {value:.4f}"
            for name, value in validation_metrics(entry).items()
            if name.partition("@")[2] == self.cutoff
        ]
        log.info(
            "epoch %3d%s loss %.4f  %s  %.1f s, %s targets/s",
            entry["epoch"],
            "*" if best else " ",
            entry["train/loss"],
            "  ".join(metrics),
            entry["train_seconds"],
            f"{entry['targets_per_second']:,}",
        )


class Bar:
    """The bar of one epoch."""

    def __init__(self, bar: tqdm):
        self.bar, self.began, self.targets, self.refreshed = bar, time.monotonic(), 0, 0.0

    def step(self, targets: int, loss: Callable[[], float]) -> None:
        """Advance by one batch; asks for its loss only where the bar is about to be drawn."""
        self.targets += targets
        if not self.bar.disable:
            now = time.monotonic()
            if now - self.refreshed >= self.bar.mininterval:
                self.refreshed, rate = now, self.targets / (now - self.began)
                self.bar.set_postfix_str(f"loss {loss():.4f}, {rate:,.0f} targets/s", refresh=False)
            self.bar.update()
