"""What a run logs elsewhere: everything once, also over a resume, and never at the expense of the run."""

import csv
import json
import struct
import time
from pathlib import Path

import pytest
from job_setting import SHORT, configure
from omegaconf import OmegaConf

from seqrec.build import refuse_impossible
from seqrec.commands import train as entry
from seqrec.config import config_hash, run_path
from seqrec.loggers import base
from seqrec.loggers.csv import CSV
from seqrec.runs.reader import find
from seqrec.training.trainer import Trainer
from seqrec.utils.errors import UserError

CHOICES = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "logger").glob("*.yaml"))


def run(outputs, *overrides):
    config = configure(*SHORT, "trainer.threads=1", f"output_dir={outputs}", *overrides)
    path = outputs / run_path(config)
    entry.job(config, path)
    return path


def interrupted_in_epoch_2(monkeypatch, outputs, *overrides):
    """Run until the end of the second epoch, which is logged, but not in the checkpoint."""
    with monkeypatch.context() as patch:
        saved = Trainer._save_last
        patch.setattr(
            Trainer, "_save_last", lambda self: saved(self) if self.state.epoch < 2 else pytest.fail("interrupted")
        )
        with pytest.raises(pytest.fail.Exception):
            run(outputs, *overrides)


def history_of(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


class Kept(base.Logger):
    """A tracker that outlives the process."""

    store: dict = {}  # noqa: RUF012

    def begin(self, run, identity):
        self.run, self.id = run, identity or f"record {len(self.store)}"
        self.store.setdefault(self.id, {"name": run.name, "config": run.config, "epochs": [], "final": []})
        return self.id

    def epochs(self, entries):
        self.store[self.id]["epochs"] += [entry["epoch"] for entry in entries]

    def finish(self, metrics, best_epoch):
        self.store[self.id]["final"].append((metrics, best_epoch, [path.name for path in self.run.artefacts()]))


class Broken(base.Logger):
    """A tracker without a server."""

    def epochs(self, entries):
        raise ConnectionError("no server\nat all")

    def finish(self, metrics, best_epoch):
        pytest.fail("has ended already")


def test_a_resumed_run_goes_on_in_the_same_record_and_a_broken_logger_ends_alone(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr(base.log, "warning", lambda line, *values: warned.append(line % values))
    monkeypatch.setattr(base, "make", lambda node, name: {"logger.kept": Kept, "logger.broken": Broken}[name]())
    monkeypatch.setattr(Kept, "store", {})
    wanted = ("logger=none", "+logger.broken={}", "+logger.kept={}")
    interrupted_in_epoch_2(monkeypatch, tmp_path, *wanted)
    folder = run(tmp_path, *wanted)
    (record,) = Kept.store.values()
    assert record["epochs"] == [1, 2]
    assert record["name"] == str(folder.relative_to(tmp_path))
    assert record["config"]["backbone.layers"] == 1
    metrics = json.loads((folder / "metrics.json").read_text())
    ((final, best_epoch, files),) = record["final"]
    assert final["test/HR@10"] == metrics["test"]["HR@10"]
    assert best_epoch == metrics["best_epoch"]
    assert {"DONE", "metrics.json", "best.pt"} <= set(files)
    assert "last.pt" not in files
    warned = [line for line in warned if "broken" in line]
    assert len(warned) == 2  # one in each process
    assert all("no server" in line and "\n" not in line for line in warned)
    run(tmp_path, *wanted, "force=true")
    assert len(Kept.store) == 2  # another run


def test_tables_have_the_history_and_the_final_metrics_and_the_hash_knows_no_logger(tmp_path, monkeypatch):
    interrupted_in_epoch_2(monkeypatch, tmp_path, "logger=csv")
    folder = run(tmp_path, "logger=csv")
    assert not (folder / "tensorboard").exists()

    def lines(name):
        with (folder / "csv" / f"{name}.csv").open() as stream:
            return list(csv.DictReader(stream))

    assert [{key: float(value) for key, value in line.items()} for line in lines("curves")] == history_of(folder)
    final = {line["name"]: float(line["value"]) for line in lines("final")}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert final == {
        "best_epoch": metrics["best_epoch"],
        **{f"{part}/{name}": value for part in ("valid", "test") for name, value in metrics[part].items()},
    }
    assert {line["key"]: line["value"] for line in lines("configuration")}["dim"] == "8"
    both = configure(*SHORT, "logger=[tensorboard,csv]")
    assert set(both.logger) == {"tensorboard", "csv"}
    assert config_hash(both) == config_hash(configure(*SHORT)) == config_hash(configure(*SHORT, "logger=none"))


def test_untrained_and_fused_runs_log_their_final_metrics(tmp_path):
    small = ("dataset.users=80", "dataset.items=120", "dataset.clusters=4", f"output_dir={tmp_path}", "logger=csv")
    for overrides in (("method=popularity",), ("method=counts", "fusion=counts")):
        config = configure(*small, "backbone=none", "loss=none", *overrides)
        folder = tmp_path / run_path(config)
        entry.job(config, folder)
        assert "test/HR@10" in (folder / "csv" / "final.csv").read_text()


def test_a_full_disk_ends_the_logger(tmp_path, monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CSV, "_write", full)
    assert (run(tmp_path, "logger=csv") / "DONE").exists()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_missing_library_is_named_before_the_run(choice, monkeypatch):
    config = configure(f"logger={choice}")
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    nodes = OmegaConf.to_container(config.logger)
    needs = [logger for logger in nodes if logger in ("mlflow", "wandb")]
    if needs:
        with pytest.raises(UserError, match=rf"seqrec\[{choice}\]"):
            refuse_impossible(config, multirun=False)
    else:
        refuse_impossible(config, multirun=False)


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    interrupted_in_epoch_2(monkeypatch, tmp_path, "logger=mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("seqrec")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FAILED"
    folder = run(tmp_path, "logger=mlflow")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", str(folder.relative_to(tmp_path)))
    assert found.data.params["dim"] == "8"
    values = client.get_metric_history(found.info.run_id, "valid/NDCG at 10")
    assert [(value.step, value.value) for value in values] == [
        (entry["epoch"], entry["valid/NDCG@10"]) for entry in history_of(folder)
    ]
    assert (
        found.data.metrics["final/test/HR at 10"] == json.loads((folder / "metrics.json").read_text())["test"]["HR@10"]
    )
    assert find([tmp_path]) == [folder]  # not the copy of its files
    assert "run/DONE" in [file.path for file in client.list_artifacts(found.info.run_id, "run")]


def records_of(path: Path):
    """Yield the records of a .wandb file, which has the layout of LevelDB's log after 7 bytes."""
    from wandb.proto import wandb_internal_pb2 as messages

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = messages.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    interrupted_in_epoch_2(monkeypatch, tmp_path, "logger=wandb")
    folder = run(tmp_path, "logger=wandb")
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.stem for file in files}) == 1  # one run
    for _ in range(100):  # its own process may still be writing
        records = [record for file in files for record in records_of(file)]
        names = [item.key or item.nested_key[0] for record in records for item in record.summary.update]
        if "test/HR@10" in names:
            break
        time.sleep(0.2)
    logged = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(entry["epoch"], entry["valid/NDCG@10"]) for entry in logged] == [
        (entry["epoch"], entry["valid/NDCG@10"]) for entry in history_of(folder)
    ]
    assert "test/HR@10" in names
