"""Weights & Biases: a run there for each of ours."""

import os
import secrets

from seqrec.loggers.base import LoggedRun, Logger


class WandB(Logger):
    """Logs offline into the run directory, for `wandb sync` later, unless WANDB_MODE says otherwise (online after `wandb login`)."""

    library = extra = "wandb"

    def __init__(self, project: str):
        self.project, self.complete = project, False

    def begin(self, run: LoggedRun, identity: str | None) -> str:
        """Begin or resume the run; returns its id."""
        import wandb

        self.wandb, self.ours = wandb, run
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self.project,
            id=identity or secrets.token_hex(4),
            resume="allow",
            name=run.name,
            dir=str(run.directory.absolute()),
            config=run.config,
            mode=os.environ.get("WANDB_MODE") or "offline",
            settings=wandb.Settings(silent=True, console="off"),
        )
        return self.run.id

    def epochs(self, entries: list[dict]) -> None:
        """Log all values of an epoch as its step."""
        for entry in entries:
            self.run.log(entry, step=entry["epoch"], commit=True)

    def finish(self, metrics: dict[str, float], best_epoch: int) -> None:
        """Put the final metrics into the summary, and log the files of the run."""
        self.run.summary.update({**metrics, "best_epoch": best_epoch})
        files = self.wandb.Artifact(f"run-{self.run.id}", type="run")
        for path in self.ours.artefacts():
            files.add_file(str(path))
        self.run.log_artifact(files)
        self.complete = True

    def close(self) -> None:
        """Write what is still in memory."""
        self.run.finish(exit_code=0 if self.complete else 1)
