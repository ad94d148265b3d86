"""What a job does with its directory, within this process."""

import json
import subprocess
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from job_setting import SHORT, SMALL, configure

from seqrec.commands import train
from seqrec.runs.directory import RunDir, remove_if_empty
from seqrec.runs.manifest import git_commit
from seqrec.utils.errors import UserError


def test_a_run_leaves_a_complete_directory(tmp_path):
    config = configure(*SHORT)
    objective = train.job(config, tmp_path / "run")
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "metrics.json", "history.jsonl", "ranks_test.npz", "best.pt", "last.pt"),
        *("tensorboard", "run.log", "manifest.json", "DONE"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {f"{name}@{k}" for name in ("HR", "NDCG") for k in (5, 10, 20)} | {"MRR"}
    assert set(metrics["valid"]) == set(metrics["test"]) == wanted
    assert metrics["valid"]["NDCG@10"] == objective
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert objective == max(entry["valid/NDCG@10"] for entry in history)
    assert metrics["best_epoch"] in (1, 2)
    with np.load(folder / "ranks_test.npz") as ranks:
        assert set(ranks) == {"user", "target", "better", "equal", "rank", "user_id", "target_id"}
        assert np.array_equal(ranks["rank"], ranks["better"] + (ranks["equal"] + 1) / 2)
        hits = np.clip((10 - ranks["better"]) / ranks["equal"], 0, 1)
        assert metrics["test"]["HR@10"] == pytest.approx(hits.mean())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"]["users"] == 150
    assert manifest["protocol"]["loss"] == "cross_entropy"
    assert manifest["parameters"] > 0
    assert list((folder / "tensorboard").glob("events*"))


def test_the_best_checkpoint_is_what_is_tested(tmp_path):
    from seqrec.build import load

    train.job(configure(*SHORT), tmp_path / "run")
    experiment = load(tmp_path / "run")
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, torch.device("cpu"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert experiment.evaluator.metrics(ranks) == metrics["test"]


def test_a_complete_directory_is_kept_and_force_renames_it(tmp_path):
    config = configure("method=popularity", *SMALL[:3])
    folder = tmp_path / "run"
    first = train.job(config, folder)
    stamp = (folder / "DONE").stat().st_mtime_ns
    assert train.job(config, folder) == first
    assert (folder / "DONE").stat().st_mtime_ns == stamp
    config.force = True
    assert train.job(config, folder) == first
    assert (tmp_path / "run.old-1" / "DONE").exists()
    assert (folder / "DONE").stat().st_mtime_ns != stamp


@pytest.mark.parametrize("end", ["complete", "interrupted"])
def test_the_directory_of_another_configuration_is_refused(tmp_path, end):
    train.job(configure("method=popularity", *SMALL[:3]), tmp_path)
    if end == "interrupted":
        (tmp_path / "DONE").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"holds a run of another configuration \(hash \w+, now \w+\).*force=true"):
        train.job(configure("method=itemknn", *SMALL[:3]), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "content",
    ["", "name: thesis", "- 1", "a: [1", "7", "null", "!!python/tuple [1]", "dataset: 3", "a: \0", "\ufffe\1"],
)
def test_a_config_yaml_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config.yaml is .*not that of a run.*force=true"):
        train.job(configure("method=popularity", *SMALL[:3]), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == content


def test_force_takes_a_fresh_directory_into_which_hydra_has_written(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "train.log").touch()
    train.job(configure("method=popularity", *SMALL[:3], "force=true"), tmp_path)
    assert (tmp_path / "DONE").exists()


@pytest.mark.parametrize("method", ["popularity", "plain"])
def test_other_data_than_the_run_had_is_refused(tmp_path, method):
    from seqrec.build import load

    def write(last: int) -> None:
        events = [f"u{user},i{(user + 3 * event) % 25},{event}" for user in range(20) for event in range(5)]
        (tmp_path / "own.csv").write_text("\n".join(["user,item,time", *events[:-1], f"u19,i{last},4"]))

    write(last=2)
    columns = [f"dataset.{name}_column={name}" for name in ("user", "item", "time")]
    short = SHORT[3:] if method == "plain" else []
    config = configure("dataset=file", f"dataset.path={tmp_path}/own.csv", *columns, *short, f"method={method}")
    config.cache_dir = str(tmp_path / "cache")
    train.job(config, tmp_path / "run")
    load(tmp_path / "run")
    write(last=3)
    with pytest.raises(UserError, match=r"run: the run had data of sha256 \w+, here it is \w+"):
        load(tmp_path / "run")
    (tmp_path / "run" / "DONE").unlink()
    if method == "plain":
        with pytest.raises(UserError, match=r"last.pt belongs to another run \(data_sha256 \w+, now \w+\)"):
            train.job(config, tmp_path / "run")


def test_force_leaves_other_files_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    config = configure("method=popularity", *SMALL[:3], "force=true")
    with pytest.raises(UserError, match=r"force=true: there is no run in .*, but other files"):
        train.job(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_dry_run_describes_and_leaves_nothing(tmp_path, caplog):
    config = configure(*SHORT, "dry_run=true")
    (tmp_path / "a" / "run").mkdir(parents=True)
    caplog.set_level("INFO", logger="seqrec")
    train.job(config, tmp_path / "a" / "run")
    assert "parameters" in caplog.text
    assert "'users': 150" in caplog.text
    assert "max_epochs: 2" in caplog.text
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("link", [False, True], ids=["plain", "through a link"])
def test_dry_run_leaves_the_working_directory(tmp_path, monkeypatch, link):
    here, run = tmp_path / "here", tmp_path / "here" / "outputs" / "run"
    run.mkdir(parents=True)
    if link:
        (tmp_path / "link").symlink_to(here)
        run = tmp_path / "link" / "outputs" / "run"
    monkeypatch.chdir(here)
    train.job(configure(*SHORT, "dry_run=true"), run)
    assert here.exists()
    assert not list(here.iterdir())


def test_an_empty_folder_that_another_process_removes_is_no_error(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "run"
    folder.mkdir(parents=True)
    rmdir = Path.rmdir
    monkeypatch.setattr(Path, "rmdir", lambda path: (rmdir(path), rmdir(path)))  # the other one was a moment faster
    remove_if_empty(folder)
    assert not folder.exists()


def test_the_commit_says_whether_code_was_changed_or_added(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a", *arguments], cwd=tmp_path, check=True)

    assert git_commit(tmp_path) is None
    assert (signature(git_commit).parameters["root"].default / "conf" / "config.yaml").exists()
    (tmp_path / "seqrec").mkdir()
    for name in ("seqrec/old.py", "train.py", "notes.txt"):
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    assert git_commit(tmp_path / "seqrec") is None  # as where it is installed below another project
    (tmp_path / "notes.txt").write_text("2")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "a.txt").write_text("1")
    assert git_commit(tmp_path) == commit
    (tmp_path / "seqrec" / "new.py").write_text("1")
    assert git_commit(tmp_path) == commit + "+changes"


def test_a_second_process_is_kept_out(tmp_path):
    run_dir = RunDir(tmp_path / "run")
    other = RunDir(tmp_path / "run")
    with run_dir.lock(), pytest.raises(UserError, match="another process is at work"), other.lock():
        pytest.fail("two processes were let in")
    with other.lock():
        pass


def test_max_minutes_ends_training_with_a_complete_directory(tmp_path):
    config = configure(*SHORT, "trainer.max_minutes=0.000001", "trainer.max_epochs=50")
    train.job(config, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["epochs"] == 1
    assert "max_minutes" in manifest["stopped"]


def test_early_stopping_waits_for_patience_evaluations(tmp_path):
    config = configure(*SHORT, "trainer.max_epochs=60", "trainer.patience=2", "trainer.optimizer.lr=0.05")
    train.job(config, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    epochs = len((tmp_path / "run" / "history.jsonl").read_text().splitlines())
    assert epochs == metrics["best_epoch"] + 2 < 60


def test_patience_begins_where_the_method_says(tmp_path):
    still = ("trainer.optimizer.lr=1e-12", "trainer.patience=2", "trainer.max_epochs=9")
    for method, epochs in (("plain", 3), ("asarrec", 5)):
        warm_up = ("method.warmup_epochs=3",) if method == "asarrec" else ()
        train.job(configure(*SHORT, *still, f"method={method}", *warm_up), tmp_path / method)
        manifest = json.loads((tmp_path / method / "manifest.json").read_text())
        assert manifest["epochs"] == epochs, method


@pytest.mark.parametrize("lost", [False, True])
def test_best_weights_of_another_epoch_are_made_again_from_the_last_ones_or_refused(tmp_path, lost):
    config = configure(*SHORT)
    train.job(config, tmp_path / "run")
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    (tmp_path / "run" / "DONE").unlink()
    best, last = (torch.load(tmp_path / "run" / name, weights_only=True) for name in ("best.pt", "last.pt"))
    assert best["epoch"] == last["state"]["epoch"] == 2
    torch.save({**best, "epoch": 3}, tmp_path / "run" / "best.pt")
    if lost:
        last["state"]["best_epoch"] = 1
        torch.save(last, tmp_path / "run" / "last.pt")
        with pytest.raises(UserError, match=r"best.pt is of epoch 3, the best one was 1: .*force=true"):
            train.job(config, tmp_path / "run")
    else:
        train.job(config, tmp_path / "run")
        assert (tmp_path / "run" / "metrics.json").read_text() == metrics
