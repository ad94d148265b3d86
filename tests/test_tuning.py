"""Studies: what a trial does and leaves out, what the next one tries, and what is chosen."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from job_setting import SHORT, configure

from seqrec.commands import train
from seqrec.config import apply_variant, config_hash, run_path
from seqrec.evaluation.evaluator import Evaluator
from seqrec.runs.reader import find
from seqrec.tuning import choice, study
from seqrec.tuning.trial import run_trial
from seqrec.utils.errors import UserError

pytest.importorskip("optuna")
ROOT = Path(__file__).parents[1]
TINY = ("tune.startup=1", "tune.prune_from=1", "tune.backbones.sasrec.dim.choices=[8,16]")
ENDED = {"values": {}, "data_sha256": "", "epochs": 2}


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Function that runs a trial of a tiny study, and returns its folder."""
    chosen = SimpleNamespace(runtime=SimpleNamespace(choices={"method": "plain"}))
    monkeypatch.setattr(HydraConfig, "get", lambda: chosen)

    def run(number: int, *overrides: str) -> Path:
        config = configure(*SHORT, "tune=plain", f"tune.trial={number}", *TINY, f"output_dir={tmp_path}", *overrides)
        run_trial(config, tmp_path / study.trial_path(config))
        return tmp_path / study.trial_path(config)

    return run


def made_up(folder: Path, number: int, curve: list[float], state: str = "complete") -> None:
    """Write a trial that has ended, with the values of trial 0 beside it."""
    first = study.read_trial(folder / "trial-000")
    (folder / f"trial-{number:03d}").mkdir()
    values = {"number": number, "state": state, "value": max(curve), "curve": dict(enumerate(curve, 1))}
    (folder / f"trial-{number:03d}" / "trial.json").write_text(json.dumps(first | values))


def test_what_a_trial_tries_follows_from_the_trials_before_the_seed_and_its_number():
    space = {
        "a": {"low": 0.001, "high": 1.0, "log": True},
        "b": {"choices": ["x", "y", "z"]},
        "c": {"low": 1, "high": 9},
    }
    earlier = [
        ENDED
        | {
            "number": n,
            "state": "complete",
            "value": n / 9,
            "curve": {"1": n / 9},
            "values": {"a": 0.1, "b": "x", "c": n},
        }
        for n in range(1, 8)
    ]

    def tried(trials, number, seed):
        return study.Search(trials, number, seed, space, 3, 5).values()

    assert tried(earlier, 7, 1) == tried(earlier, 7, 1)
    assert (
        len({str(tried(earlier, 7, 1)), str(tried(earlier, 8, 1)), str(tried(earlier, 7, 2)), str(tried([], 7, 1))})
        == 4
    )


@pytest.mark.parametrize(("value", "ends"), [(0.1, True), (0.9, False)])
def test_a_trial_below_the_median_is_ended_early_but_not_in_its_first_epochs(value, ends):
    curves = [{str(epoch): 0.5 + n / 100 for epoch in range(1, 6)} for n in range(3)]
    earlier = [
        ENDED | {"number": n, "state": "complete", "value": 0.5, "curve": curve} for n, curve in enumerate(curves)
    ]
    search = study.Search(earlier, 3, 1, {}, 3, 2)
    assert [search.hopeless(epoch, value) for epoch in (1, 2, 3)] == [False, ends, ends]
    few = study.Search(earlier[:2], 3, 1, {}, 3, 2)
    assert not any(few.hopeless(epoch, value) for epoch in (1, 2, 3))


def test_a_trial_is_validated_and_not_tested_and_no_report_reads_it(trial, tmp_path, monkeypatch):
    asked = []
    ranks = Evaluator.ranks
    monkeypatch.setattr(
        Evaluator,
        "ranks",
        lambda self, model, questions, *more, **keys: (
            asked.append(questions) or ranks(self, model, questions, *more, **keys)
        ),
    )
    folder = trial(0)
    found = study.read_trial(folder)
    assert found["state"] == "complete"
    assert found["value"] == max(found["curve"].values())
    assert len(asked) == len({id(one) for one in asked}) + 1 == 2, "something but the validation set was asked about"
    assert not {"DONE", "metrics.json", "ranks_test.npz"} & {path.name for path in folder.iterdir()}
    assert find([tmp_path]) == []
    trial(0)
    assert len(asked) == 2, "a trial that has ended was done again"


def test_the_best_trial_goes_on_to_the_test_under_the_name_of_the_plain_command(trial, tmp_path, monkeypatch):
    folder = trial(0)
    made_up(folder.parent, 1, [0.9, 0.99], state="pruned")
    overrides = ["tune=plain", "tune.trial=0", "dim=8", "seed=1"]
    records = [{"directory": str(folder), "overrides": overrides}]
    (chosen,) = choice.choices(records, ["-m", "tune=plain", "hydra/launcher=joblib"])
    assert chosen.arguments == ["-m", "hydra/launcher=joblib", "dim=8", "method=plain", "seed=1,2,3"]

    assert choice.choices(records, ["tune=plain"])[0].arguments[0] == "-m"

    config = configure(*SHORT, f"output_dir={tmp_path}")
    final = tmp_path / run_path(config)
    monkeypatch.setattr("seqrec.training.trainer.Trainer._train_epoch", lambda self: pytest.fail("trained again"))
    monkeypatch.setattr(HydraConfig, "initialized", lambda: False)
    assert train.job(config, final) == study.read_trial(folder)["value"]
    assert (final / "DONE").exists()
    chosen.keep([str(final)])
    assert json.loads((folder.parent / "study.json").read_text())["runs"] == [final.name]


def test_the_choice_is_the_highest_validation_metric_and_of_equal_ones_the_first(trial, monkeypatch):
    folder = trial(0).parent
    monkeypatch.setattr(choice.RunDir, "take", lambda *_: None)
    low = study.read_trial(folder / "trial-000")["value"]
    for number, curve in ((1, [low + 0.1, low + 0.3]), (2, [low + 0.3]), (3, [low + 0.2])):
        made_up(folder, number, curve)
        (folder / f"trial-{number:03d}" / "config.yaml").write_text((folder / "trial-000" / "config.yaml").read_text())
        values = study.read_trial(folder / f"trial-{number:03d}") | {"values": {"dim": 8 * number}}
        (folder / f"trial-{number:03d}" / "trial.json").write_text(json.dumps(values))
    choice.choose(folder, ["-m"], ["tune=plain", "tune.trial=0"])
    assert json.loads((folder / "study.json").read_text())["best"] == 1


def test_a_bad_trial_is_ended_early_and_keeps_no_weights(trial):
    folder = trial(0, "trainer.max_epochs=3").parent
    made_up(folder, 1, [0.9, 0.91, 0.92])
    made_up(folder, 2, [0.9, 0.91, 0.92])
    found = study.read_trial(trial(3, "trainer.max_epochs=3"))
    assert (found["state"], found["epochs"]) == ("pruned", 1)
    assert not list((folder / "trial-003").glob("*.pt"))
    assert list((folder / "trial-000").glob("*.pt"))


def test_a_trial_that_diverges_is_spent(trial):
    folder = trial(0).parent
    # the range is part of a study's name: it has to be given to both
    wild = ("tune.space={trainer.optimizer.lr:{low:1e20,high:1e30,log:true}}",)
    found = study.read_trial(trial(1, *wild))
    assert found["state"] == "diverged"
    assert "training diverged" in found["why"]
    assert folder.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tune=plain", "fusion=counts"], "tune with fusion=counts"),
        (["tune=plain", "force=true"], "tune with force=true"),
        (["tune=base", "method=popularity"], "tune with method=popularity: it is not trained"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tmp_path, overrides, message):
    config = configure(*SHORT[:3], *overrides, "tune.trial=0")
    with pytest.raises(UserError, match=message):
        run_trial(config, tmp_path / "study-0" / "trial-000")


@pytest.mark.parametrize("value", ["trials=true", "startup=0", "seeds=[]", "seeds=[true]", "trial=x", "trial=-1"])
def test_a_value_that_makes_no_sense_is_refused(value):
    with pytest.raises(UserError, match=rf"tune.{value.partition('=')[0]}="):
        train.path_of_job(configure("tune=plain", "tune.trial=0", f"tune.{value}"))


def test_a_study_of_two_methods_is_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(UserError, match="tune=cat,plain: a study"):
        train.main(["-m", "tune=cat,plain"])


def test_the_search_space_is_no_part_of_a_runs_hash():
    tuned, plain = configure("tune=plain", "tune.trials=7"), configure()
    assert config_hash(apply_variant(tuned)) == config_hash(apply_variant(plain))
    assert run_path(tuned) == run_path(plain)


def command(folder: Path) -> list[str]:
    small = ("tune.trials=6", "tune.seeds=[1]", "tune.startup=2", "trainer.max_epochs=4", "trainer.threads=1")
    return [
        sys.executable,
        ROOT / "train.py",
        "-m",
        "tune=plain",
        *SHORT[:-3],
        *TINY[1:],
        *small,
        "trainer.batch_size=32",
        f"output_dir={folder}",
    ]


@pytest.mark.slow
def test_a_study_killed_twice_ends_with_the_trials_of_one_never_killed(tmp_path):
    whole = subprocess.run(command(tmp_path / "whole"), capture_output=True, text=True, cwd=ROOT, check=False)
    assert whole.returncode == 0, whole.stderr
    for number in (2, 4):
        with subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, cwd=ROOT) as process:
            end = time.monotonic() + 180
            while not list((tmp_path / "killed").rglob(f"trial-{number:03d}/config.yaml")):
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    ended = subprocess.run(command(tmp_path / "killed"), capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    found = {}
    for name in ("whole", "killed"):
        trials = sorted((tmp_path / name).rglob("trial.json"))
        (done,) = (tmp_path / name).rglob("DONE")
        found[name] = [
            *(json.loads(path.read_text()) for path in trials),
            (done.parent / "metrics.json").read_text(),
            done.parent.name,
        ]
    assert len(found["whole"]) == 8
    assert found["killed"] == found["whole"]
