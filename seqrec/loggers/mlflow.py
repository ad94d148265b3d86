"""MLflow: a run of its tracking store for each of ours."""

import os
import time

from seqrec.loggers.base import LoggedRun, Logger


class MLflow(Logger):
    """Logs to the store that MLFLOW_TRACKING_URI names, by default files in <output_dir>/mlruns (`mlflow ui --backend-store-uri`)."""

    library = extra = "mlflow"

    def __init__(self, experiment: str):
        self.experiment, self.complete = experiment, False

    def begin(self, run: LoggedRun, identity: str | None) -> str:
        """Open the run `identity`, or make one; returns its id."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # versions from 3.7 ask for it
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 take minutes where there is no server
        from mlflow.entities import Metric, Param, RunStatus
        from mlflow.tracking import MlflowClient

        self.run, self.metric = run, Metric
        self.client = MlflowClient(
            os.environ.get("MLFLOW_TRACKING_URI") or (run.outputs / "mlruns").absolute().as_uri()
        )
        self.id = identity
        if identity is not None:
            self.client.update_run(identity, RunStatus.to_string(RunStatus.RUNNING))
            return identity
        found = self.client.get_experiment_by_name(self.experiment)
        number = self.client.create_experiment(self.experiment) if found is None else found.experiment_id
        self.id = self.client.create_run(number, run_name=run.name).info.run_id
        parameters = [Param(key, str(value)) for key, value in run.config.items()]
        for first in range(0, len(parameters), 100):  # as many as a call takes
            self.client.log_batch(self.id, params=parameters[first : first + 100])
        return self.id

    def epochs(self, entries: list[dict]) -> None:
        """Log a metric per value, at its epoch."""
        for entry in entries:
            self._log({name: value for name, value in entry.items() if name != "epoch"}, entry["epoch"])

    def finish(self, metrics: dict[str, float], best_epoch: int) -> None:
        """Log the final metrics and the files of the run."""
        self._log({f"final/{name}": value for name, value in metrics.items()} | {"best_epoch": best_epoch}, best_epoch)
        for path in self.run.artefacts():
            self.client.log_artifact(self.id, str(path), "run")
        self.client.set_terminated(self.id)
        self.complete = True

    def close(self) -> None:
        """Mark an interrupted run as failed, until it is resumed."""
        if not self.complete:
            self.client.set_terminated(self.id, "FAILED")

    def _log(self, values: dict[str, float], step: int) -> None:
        # MLflow allows no @ in a name
        now = int(time.time() * 1000)
        self.client.log_batch(
            self.id,
            metrics=[self.metric(name.replace("@", " at "), value, now, step) for name, value in values.items()],
        )
