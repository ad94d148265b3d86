"""Tables for spreadsheets in the run directory."""

import csv
import io
from collections.abc import Iterable

from seqrec.loggers.base import LoggedRun, Logger
from seqrec.utils.files import write_atomically


class CSV(Logger):
    """Writes csv/configuration.csv, csv/curves.csv (a line per epoch) and csv/final.csv."""

    def begin(self, run: LoggedRun, identity: str | None) -> None:
        """Write the configuration."""
        self.folder, self.rows = run.directory / "csv", []
        self.folder.mkdir(exist_ok=True)
        self._write("configuration", ["key", "value"], run.config.items())

    def epochs(self, entries: list[dict]) -> None:
        """Write the table of all epochs anew."""
        self.rows += entries
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        self._write("curves", names, ([row.get(name, "") for name in names] for row in self.rows))

    def finish(self, metrics: dict[str, float], best_epoch: int) -> None:
        """Write the final metrics."""
        self._write("final", ["name", "value"], [("best_epoch", best_epoch), *metrics.items()])

    def _write(self, name: str, head: list[str], rows: Iterable) -> None:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([head, *rows])
        write_atomically(self.folder / f"{name}.csv", stream.getvalue().encode())
