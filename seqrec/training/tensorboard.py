"""TensorBoard events, made from the history."""

import shutil
from pathlib import Path


class EventWriter:
    """Writes the entries of a history as scalars; a resumed run rewrites them all, so that none is duplicated."""

    def __init__(self, folder: Path):
        self.folder, self.writer, self.written = folder, None, 0

    def write(self, history: list[dict]) -> None:
        """Write the entries that are new since the last call."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a while, so not before it is needed

            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.writer = SummaryWriter(str(self.folder))
        for entry in history[self.written :]:
            for name, value in entry.items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, entry["epoch"])
        self.written = len(history)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
