"""A run directory stays what it is: under another process, other code, other data, and after death at a bad moment."""

import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from job_setting import SHORT, SMALL, configure

from seqrec import build
from seqrec.commands import evaluate, robustness, train
from seqrec.config import run_path, without_fusion
from seqrec.data.cache import cached
from seqrec.experiment import complete
from seqrec.runs.directory import RunDir
from seqrec.training import trainer
from seqrec.training.trainer import Trainer
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.files import remove_leftovers

COUNTED = ["method=popularity", *SMALL[:3]]
LONGER = [*SHORT, "trainer.max_epochs=4", "trainer.threads=1"]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def interrupt(monkeypatch, folder, config, epoch=2):
    """Leave the run directory of a run that was killed after an epoch."""

    def goes_on(self):
        if self.state.epoch == epoch:
            raise InterruptedError
        return original(self)

    original = Trainer._goes_on
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_goes_on", goes_on)
        with pytest.raises(InterruptedError):
            train.job(config, folder)


@pytest.mark.parametrize("other", [[], ["dataset.seed=3"]], ids=["same", "another configuration"])
def test_a_run_that_another_process_completed_meanwhile_is_kept(tmp_path, monkeypatch, other):
    def meanwhile(*arguments, **keywords):
        monkeypatch.undo()
        train.job(configure(*COUNTED, *other), tmp_path)
        seen.update(stamps(tmp_path))

    seen = {}
    monkeypatch.setattr(build, "refuse_impossible", meanwhile)
    if other:
        with pytest.raises(UserError, match="holds a run of another configuration"):
            train.job(configure(*COUNTED), tmp_path)
    else:
        train.job(configure(*COUNTED), tmp_path)
    assert stamps(tmp_path) == seen != {}


def test_the_run_that_a_fusion_takes_is_not_done_again(tmp_path):
    train.job(configure(*COUNTED), tmp_path)
    before = stamps(tmp_path)
    complete(configure(*COUNTED), RunDir(tmp_path))
    assert stamps(tmp_path) == before


def test_a_fusion_waits_for_the_process_that_trains_its_run(tmp_path, caplog):
    config = configure(*SHORT, "trainer.max_epochs=1", "trainer.threads=1", "fusion=counts", f"output_dir={tmp_path}")
    base = RunDir(tmp_path / run_path(without_fusion(config)))
    at_work, end = threading.Event(), time.monotonic() + 60

    def other():
        with base.lock():
            at_work.set()
            while "waiting" not in caplog.text and time.monotonic() < end:
                time.sleep(0.01)

    threading.Thread(target=other).start()
    at_work.wait()
    with caplog.at_level("INFO", "seqrec"):
        train.job(config, tmp_path / run_path(config))
    assert base.complete
    assert time.monotonic() < end


@pytest.mark.parametrize(("key", "value"), [("git_commit", "abc"), ("threads", 7), ("versions", {"torch": "1.0"})])
def test_a_run_resumed_by_other_code_or_with_other_threads_tells(tmp_path, monkeypatch, caplog, key, value):
    config = configure(*LONGER)
    interrupt(monkeypatch, tmp_path, config)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    interrupt(monkeypatch, tmp_path, config, epoch=3)
    train.job(config, tmp_path)  # by the same code as the one before
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [earlier[key] for earlier in manifest["resumed_from"]] == [value]
    undisturbed = tmp_path / "undisturbed"
    train.job(config, undisturbed)
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    assert "resumed_from" not in manifest
    assert manifest["warnings"] == []


def test_stage1_is_not_needed_to_resume(tmp_path, monkeypatch):
    plain, folder = tmp_path / "plain", tmp_path / "cat"
    train.job(configure(*SHORT), plain)
    config = configure(*SHORT, "method=cat", "method.stage2_epochs=3", f"method.stage1={plain}")
    train.job(config, tmp_path / "whole")
    interrupt(monkeypatch, folder, config)
    shutil.rmtree(plain)
    train.job(config, folder)
    assert (folder / "metrics.json").read_text() == (tmp_path / "whole" / "metrics.json").read_text()


def test_changed_data_under_a_complete_run_are_seen(tmp_path):
    def write(last):
        events = [f"u{user},i{(user + 3 * event) % 25},{event}" for user in range(20) for event in range(5)]
        (tmp_path / "own.csv").write_text("\n".join(["user,item,time", *events[:-1], f"u19,i{last},4"]))

    write(last=2)
    columns = [f"dataset.{name}_column={name}" for name in ("user", "item", "time")]
    config = configure("dataset=file", f"dataset.path={tmp_path}/own.csv", *columns, "method=popularity")
    config.cache_dir = str(tmp_path / "cache")
    figure = train.job(config, tmp_path / "run")
    os.utime(tmp_path / "own.csv", ns=(1, 1))
    assert train.job(config, tmp_path / "run") == figure
    write(last=3)
    with pytest.raises(UserError, match=r"the run had data of sha256 \w+, here it is \w+; .*force=true"):
        train.job(config, tmp_path / "run")
    (tmp_path / "own.csv").unlink()
    assert train.job(config, tmp_path / "run") == figure


class Killed(BaseException):
    pass


@pytest.mark.parametrize("death", [1, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 5, 8))])
def test_a_run_that_died_between_two_files_ends_though_its_epochs_come_out_otherwise(tmp_path, monkeypatch, death):
    def save(self, name, state):
        original(self, name, state)
        calls.append(name)
        if len(calls) == death:
            raise Killed

    calls, original = [], Checkpoints.save
    config = configure(*LONGER, "trainer.optimizer.lr=0.05", "method=cat", "method.stage2_epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Killed):
            train.job(config, tmp_path)
    monkeypatch.setattr(trainer, "restore_random_state", lambda state: torch.manual_seed(death))
    train.job(config, tmp_path)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == json.loads((tmp_path / "metrics.json").read_text())["best_epoch"]


def test_a_run_that_earlier_code_left_between_two_files_ends(tmp_path, monkeypatch):
    config = configure(*LONGER)
    interrupt(monkeypatch, tmp_path, config)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    last["state"] |= {"best_epoch": 1, "best": 1.0}  # no later epoch is better
    torch.save(last, tmp_path / "last.pt")
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    torch.save({**best, "epoch": 3}, tmp_path / "best.pt")
    train.job(config, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["best_epoch"] in (3, 4)


def test_what_killed_writers_left_is_removed(tmp_path):
    own, others = (".last.pt.99999.tmp", ".DONE.1.tmp"), (".robustness.json.99999.tmp", ".last.pt.tmp", "last.pt.1.tmp")
    for name in (*own, *others):
        (tmp_path / name).write_text("half")
    train.job(configure(*COUNTED), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names.isdisjoint(own)
    assert names >= set(others)


def test_leftovers_that_another_process_takes_away_are_no_error(tmp_path, monkeypatch):
    gone = tmp_path / ".a.csv.1.tmp"
    monkeypatch.setattr(type(tmp_path), "glob", lambda *_: iter([gone]))
    remove_leftovers(tmp_path, "a.csv")
    assert not gone.exists()


def test_a_download_at_work_is_left_alone(tmp_path):
    for name, age in ((".a.csv.1.tmp", 7200), (".a.csv.2.tmp", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_leftovers(tmp_path, "a.csv", age=3600)
    assert [path.name for path in tmp_path.iterdir()] == [".a.csv.2.tmp"]


def test_the_copy_of_something_else_is_built_again(tmp_path):
    arrays = {name: np.arange(3) for name in ("items", "offsets", "user_ids", "item_ids", "counts")}
    cached(tmp_path / "one.npz", lambda: arrays)
    np.savez(tmp_path / "ranks.npz", rank=np.arange(3))
    for name in ("one.npz", "ranks.npz"):
        shutil.copy(tmp_path / name, tmp_path / "two.npz")
        found, warnings = cached(tmp_path / "two.npz", lambda: {**arrays, "items": np.arange(5)})
        assert (len(found["items"]), len(warnings), set(found)) == (5, 1, set(arrays))
        assert cached(tmp_path / "two.npz", None)[1] == []
    np.savez(tmp_path / "two.npz", **arrays)  # as earlier versions wrote it
    assert cached(tmp_path / "two.npz", None)[1] == []


OTHERWISE = ["eval.cutoffs=[1,10]", "eval.metrics=[HR,NDCG,MRR,Coverage]"]


def refuse_to_train(self):
    raise AssertionError("trained again")


def test_other_cutoffs_and_metrics_do_not_train_again(tmp_path, monkeypatch):
    def at(*overrides):
        config = configure(*SHORT, *overrides)
        return config, tmp_path / run_path(config)

    train.job(*at())
    config, _ = at(*OTHERWISE)
    train.job(config, tmp_path / "trained")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", refuse_to_train)
        config, folder = at(*OTHERWISE)
        train.job(config, folder)
        assert (folder / "metrics.json").read_text() == (tmp_path / "trained" / "metrics.json").read_text()
        assert build.load(folder).evaluator.cutoffs == [1, 10]
        for overrides in (
            ["eval.mask_history=false"],
            ["eval.ties=optimistic"],
            ["dim=16"],
            [*OTHERWISE, "force=true"],
        ):
            with pytest.raises(
                AssertionError, match="trained again"
            ):  # of these the first two choose another best epoch
                train.job(*at(*overrides))


@pytest.mark.parametrize("harm", ["removed", "of another epoch"])
def test_a_run_whose_best_weights_are_lost_gives_them_to_no_other(tmp_path, harm):
    def at(*overrides):
        config = configure(*SHORT, f"output_dir={tmp_path}", *overrides)
        return config, tmp_path / run_path(config)

    folder = at()[1]
    train.job(*at())
    if harm == "removed":
        (folder / "best.pt").unlink()
    else:
        torch.save(torch.load(folder / "best.pt", weights_only=True) | {"epoch": 7}, folder / "best.pt")
    with pytest.raises(UserError, match=r"best\.pt"):
        train.job(*at("fusion=counts"))
    if harm == "removed":
        train.job(*at(*OTHERWISE))  # trains itself
        assert RunDir(at(*OTHERWISE)[1]).metrics()["best_epoch"] == RunDir(folder).metrics()["best_epoch"]
    else:
        with pytest.raises(UserError, match=r"best\.pt is of epoch 7, the best one was"):
            train.job(*at(*OTHERWISE))


def test_a_finished_run_is_evaluated_in_another_way(tmp_path, capsys):
    config = configure(*SMALL[:3], "method=markov", "method.history_decay=auto")
    train.job(config, tmp_path)
    capsys.readouterr()

    def shown(*arguments):
        evaluate.main([str(tmp_path), *arguments])
        return {name: float(value) for name, value in map(str.split, capsys.readouterr().out.splitlines())}

    usual = shown()
    other = shown("eval.cutoffs=[1,10]", "--part", "test", "eval.ties=optimistic", "eval.metrics=[HR]")
    assert set(other) == {"HR@1", "HR@10"}
    assert other["HR@10"] >= usual["HR@10"]
    assert shown("eval.mask_history=false")["HR@10"] < usual["HR@10"]


@pytest.mark.parametrize("command", [evaluate, robustness])
def test_the_users_that_weights_are_fitted_on_do_not_judge_them(command, tmp_path):
    config = configure("method=counts", *SMALL[:3], f"output_dir={tmp_path}")
    train.job(config, tmp_path / run_path(config))
    with pytest.raises(UserError, match="--part valid"):
        command.main([str(tmp_path / run_path(config)), "--part", "valid"])


def test_a_folder_above_a_run_leads_to_it(tmp_path):
    config = configure(*COUNTED, f"output_dir={tmp_path}")
    train.job(config, tmp_path / run_path(config))
    for folder, said in ((tmp_path, str(tmp_path / run_path(config))), (tmp_path / "seed*", "matches nothing")):
        with pytest.raises(UserError, match="no run directory") as error:
            evaluate.main([str(folder)])
        assert said in str(error.value)
