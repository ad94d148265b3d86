"""TensorBoard events in the run directory, made from the history."""

import json
import shutil

from seqrec.loggers.base import LoggedRun, Logger


class TensorBoard(Logger):
    """Writes scalars and the configuration to tensorboard/; a resumed run writes them anew, so that no epoch is there twice.

    An untrained run has no curves and leaves no events.
    """

    writer = None

    def begin(self, run: LoggedRun, identity: str | None) -> None:
        """Take over the run."""
        self.run = run

    def epochs(self, entries: list[dict]) -> None:
        """Write a scalar per value."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a while, so not before it is needed

            folder = self.run.directory / "tensorboard"
            if folder.exists():
                shutil.rmtree(folder)
            self.writer = SummaryWriter(str(folder))
            self.writer.add_text("configuration", f"```\n{json.dumps(self.run.config, indent=2)}\n```")
        for entry in entries:
            for name, value in entry.items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, entry["epoch"])
        self.writer.flush()

    def finish(self, metrics: dict[str, float], best_epoch: int) -> None:
        """Write the test metrics at the best epoch."""
        for name, value in metrics.items() if self.writer else ():
            if name.startswith("test/"):
                self.writer.add_scalar(name, value, best_epoch)

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
