"""What scripts/benchmark.py measures, and what it measures against."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest
import torch
from hydra import compose, initialize_config_dir

from seqrec.build import build
from seqrec.commands import benchmark as command
from seqrec.commands import catalogue, processes
from seqrec.commands.timing import EVALUATIONS, Plain, Timing, benchmark, ratios, report, time_to_good
from seqrec.methods.base import Method
from seqrec.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "backbone.layers=1", "max_len=10"]
SMALL += ["trainer.batch_size=32", "trainer.progress=false"]


def configure(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", [*SMALL, *overrides])


class FakeRival:
    name = "floor"

    def __init__(self, experiment):
        self.calls = []

    def epoch(self):
        self.calls.append("epoch")
        return 10.0 * len(self.calls)

    def evaluate(self):
        self.calls.append("evaluate")
        return 7.0


# ---------------------------------------------------------------- ours


def test_the_first_epoch_and_the_first_ranking_are_not_counted_and_the_rival_takes_turns():
    rivals = []

    def make_rival(experiment):
        rivals.append(FakeRival(experiment))
        return rivals[0]

    steps = []
    original = Method.optimize

    def counted(self, batch, update):
        steps.append(len(rivals and rivals[0].calls))
        return original(self, batch, update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "optimize", counted)
        began = time.monotonic() - 100
        experiment, facts, (ours, theirs) = benchmark(configure(), 2, began, make_rival)
    per_epoch = len(experiment.loader)
    assert steps == [0] * per_epoch + [1] * per_epoch + [2] * per_epoch  # the rival's epochs lie between ours
    assert rivals[0].calls == ["epoch"] * 3 + ["evaluate"] * (1 + EVALUATIONS)
    assert theirs.epochs == [20.0, 30.0]
    assert theirs.evaluations == [7.0] * EVALUATIONS
    assert len(ours.epochs) == 2
    assert len(ours.evaluations) == EVALUATIONS
    assert ours.targets == theirs.targets == experiment.loader.targets
    assert ours.users == 150
    assert ours.peak_memory_bytes > 1e7
    assert 100 < facts["start_to_first_step"] < time.monotonic() - began
    assert facts["threads"] == 1


def test_an_epoch_includes_what_the_method_prepares(monkeypatch):
    monkeypatch.setattr(Method, "on_epoch", lambda self, epoch: time.sleep(0.3))
    _, _, (ours,) = benchmark(configure(), 1, 0.0)
    assert ours.epochs[0] > 0.3


def test_both_sides_have_the_precision_of_the_trainer(monkeypatch):
    seen, original = [], Method.optimize

    def noted(self, batch, update):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, batch, update)

    monkeypatch.setattr(Method, "optimize", noted)
    benchmark(configure("trainer.precision=bf16-mixed"), 1, 0.0, Plain)
    assert all(seen)


def test_schedules_are_those_of_the_whole_training():
    benchmark(configure("trainer.schedule=linear", "trainer.warmup_epochs=5"), 1, 0.0)


def test_a_stage_that_is_too_short_is_refused():
    with pytest.raises(UserError, match=r"stage 1 ended after 1 epochs, 2 and one to warm up were to be timed"):
        benchmark(configure("trainer.max_minutes=1e-9"), 2, 0.0)


def test_every_stage_is_timed(monkeypatch):
    begun = []
    monkeypatch.setattr(Method, "stages", 2)
    monkeypatch.setattr(Method, "on_stage", lambda self, stage: begun.append(stage) or (100 if stage else None))
    _, _, timings = benchmark(configure(), 1, 0.0)
    assert begun == [0, 1]
    assert [timing.name for timing in timings] == ["seqrec, stage 1", "seqrec, stage 2"]
    assert [len(timing.epochs) for timing in timings] == [1, 1]


def test_a_method_without_training_has_no_epoch_to_time():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", ["dataset.users=150", "method=popularity", "backbone=none", "loss=none"])
    with pytest.raises(UserError, match="popularity is not trained"):
        benchmark(config, 1, 0.0)


def test_time_to_a_good_model():
    history = [
        {"epoch": 1, "train_seconds": 2.0, "valid_seconds": 0.5, "valid/NDCG@10": 0.5},
        {"epoch": 2, "train_seconds": 2.0},
        {"epoch": 3, "train_seconds": 1.0, "valid_seconds": 0.25, "valid/NDCG@10": 0.96},
        {"epoch": 4, "train_seconds": 9.0, "valid_seconds": 9.0, "valid/NDCG@10": 1.0},
        {"epoch": 5, "train_seconds": 9.0, "valid_seconds": 9.0, "valid/NDCG@10": 0.9},
    ]
    good = time_to_good(history, "NDCG@10")
    assert (good["seconds"], good["epoch"], good["epochs"], good["best"]) == (5.75, 3, 5, 1.0)


def test_figures_of_the_report():
    ours = Timing("seqrec", 1000, 30, [4.0, 2.0, 2.5], [0.5, 0.75, 0.25], 2_000_000)
    floor = Timing("floor", 1000, 30, [2.0, 1.0, 1.25], [0.2, 0.1, 0.3])
    summary = ours.summary()
    assert (summary["epoch_median"], summary["epoch_min"], summary["targets_per_second"]) == (2.5, 2.0, 500)
    assert (summary["evaluation_median"], summary["evaluation_min"], summary["users_per_second"]) == (0.5, 0.25, 120)
    expected = {"epoch_median": 2.0, "epoch_min": 2.0, "evaluation_median": 2.5, "evaluation_min": 2.5}
    assert ratios([ours, floor]) == {"floor": pytest.approx(expected)}
    _, _, first, second, ratio = report([ours, floor]).splitlines()
    assert first == "| seqrec | 1,000 | 2.500 | 2.000 | 500 | 0.500 | 0.250 | 120 | 2 |"
    assert second == "| floor | 1,000 | 1.250 | 1.000 | 1,000 | 0.200 | 0.100 | 300 |  |"
    assert ratio == "seqrec / floor: epoch 2 (fastest 2), ranking 2.5 (fastest 2.5)"


# ---------------------------------------------------------------- peers


@pytest.fixture
def launch(script):
    return script("peers.launch")


def test_peers_get_all_interactions_in_their_order(launch, dataset_of, tmp_path):
    launch.write_interactions(dataset_of([[3, 1, 2], [2, 2]]), tmp_path)
    assert (tmp_path / "data" / "data.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\n0\t3\t0\n0\t1\t1\n0\t2\t2\n1\t2\t0\n1\t2\t1\n"
    )


def test_an_environment_is_made_once_and_torch_comes_first(launch, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(launch, "call", lambda command, **_: commands.append(list(map(str, command))))
    ready = tmp_path / "recbole" / "requirements.json"
    ready.parent.mkdir()
    python = launch.environment("recbole", tmp_path)
    assert python == tmp_path / "recbole" / "bin" / "python"
    assert commands[0][-1] == str(tmp_path / "recbole")
    assert [command[5] for command in commands[1:]] == [
        f"torch=={torch.__version__.partition('+')[0]}",
        "recbole==1.2.1",
        "numpy==1.26.4",
    ]
    made = len(commands)
    assert launch.environment("recbole", tmp_path) == python
    assert len(commands) == made
    ready.write_text("[]")  # of other requirements
    launch.environment("recbole", tmp_path)
    assert len(commands) == 2 * made


def test_an_environment_that_was_not_finished_is_not_reused(launch, tmp_path, monkeypatch):
    def fail(command, **_):
        if "install" in command:
            raise launch.Failed("no network")

    monkeypatch.setattr(launch, "call", fail)
    (tmp_path / "recbole").mkdir()
    with pytest.raises(launch.Failed, match="no network"):
        launch.environment("recbole", tmp_path)
    assert not (tmp_path / "recbole" / "requirements.json").exists()


def test_a_failing_command_says_why(launch):
    with pytest.raises(launch.Failed, match=r"^no such loss .*exit code 1"):
        launch.call([sys.executable, "-c", "import sys; print('noise'); sys.exit('no such loss')"])


def test_the_command_goes_on_after_a_peer_that_fails(launch, tmp_path, monkeypatch, capsys):
    figures = {"targets": 5, "users": 150, "epochs": [2.0], "evaluations": [1.0], "peak_memory_bytes": 9}
    told = {}

    def call(command, **options):
        if "recbole" in str(command[1]):
            raise launch.Failed("no such loss")
        told.update(json.loads(command[2].read_text()), threads_of_process=options["env"]["OMP_NUM_THREADS"])
        command[3].write_text(json.dumps(figures))

    monkeypatch.setattr(launch, "call", call)
    monkeypatch.setattr(launch, "environment", lambda name, folder: Path(sys.executable))
    out = tmp_path / "figures.json"
    options = ["--epochs", "1", "--against-floor", "--peer", "recbole", "--peer", "rectools", "--json", str(out)]
    overrides = [*(o for o in SMALL if "layers" not in o), "loss=bce", "trainer.optimizer.lr=0.002"]
    command.main([*overrides, *options])
    result = json.loads(out.read_text())
    assert result["arguments"][-3:] == ["--against-floor", "--peer recbole", "--peer rectools"]
    assert [system["name"] for system in result["systems"]] == ["seqrec", "floor", "rectools"]
    assert set(result["ratios"]) == {"floor", "rectools"}
    assert result["failed"] == {"recbole": "no such loss"}
    assert told["threads_of_process"] == "1"
    expected = {"dim": 8, "max_len": 10, "layers": 2, "heads": 2, "feedforward": 4, "batch_size": 32, "epochs": 1}
    expected |= {"loss": "bce", "negatives": 1, "lr": 0.002, "dropout": 0.5, "attention_dropout": 0.5, "threads": 1}
    assert {key: told[key] for key in expected} == expected
    assert "recbole failed: no such loss" in capsys.readouterr().err


def test_only_a_plain_sasrec_is_compared():
    with pytest.raises(UserError, match="backbone=gru4rec"):
        command.configure(["backbone=gru4rec"], floor=True, peers=False)
    with pytest.raises(UserError, match="loss=bpr: the floor has bce and cross_entropy"):
        command.configure(["loss=bpr"], floor=True, peers=False)
    config = command.configure(["backbone.heads=4"], floor=True, peers=True)
    chosen = {key: config.backbone[key] for key in ("layers", "heads", "dropout", "attention_dropout", "inner_dropout")}
    assert chosen == {"layers": 2, "heads": 4, "dropout": 0.5, "attention_dropout": 0, "inner_dropout": 0}
    assert command.configure(["backbone=gru4rec"], floor=False, peers=False).backbone.name == "gru4rec"


@pytest.mark.parametrize("option", ["--against-floor", "--peer=recbole", "--processes"])
def test_outside_a_checkout_there_is_nothing_to_compare_with(monkeypatch, tmp_path, option):
    monkeypatch.setattr(command, "SCRIPTS", tmp_path)
    with pytest.raises(UserError, match=r"work in a checkout only"):
        command.main([option])


# ---------------------------------------------------------------- the backbone alone


def test_a_method_is_timed_in_turns_with_the_backbone_alone():
    config = configure("method=cat", "loss=bce")
    _, _, timings = benchmark(config, 1, time.monotonic(), Plain)
    assert [timing.name for timing in timings] == [f"{who}, stage {n}" for who in ("seqrec", "plain") for n in (1, 2)]
    found = ratios(timings)
    assert set(found) == {"plain, stage 1", "plain, stage 2"}
    for n in (0, 1):
        expected = median(timings[n].epochs) / median(timings[2 + n].epochs)
        assert found[f"plain, stage {n + 1}"]["epoch_median"] == pytest.approx(expected)
    for timing in timings:
        assert len(timing.epochs) == 1
        assert len(timing.evaluations) == EVALUATIONS
    assert len(timings[1].epochs) == len(timings[3].epochs)


def test_the_rival_is_the_plain_method_on_the_same_batches():
    experiment = build(configure("method=cl4srec", "loss=bce"))
    rival = Plain(experiment)
    before = [parameter.clone() for parameter in rival.experiment.method.parameters()]
    assert type(rival.experiment.method) is Method
    assert rival.epoch() > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, rival.experiment.method.parameters(), strict=True))
    own, other = (next(e.loader.epoch(0)) for e in (experiment, rival.experiment))
    assert torch.equal(own.seq, other.seq)
    assert torch.equal(own.negative, other.negative)


# ---------------------------------------------------------------- catalogues


@pytest.mark.slow
def test_catalogues_are_timed_one_after_the_other(tmp_path, capsys):
    out = tmp_path / "figures.json"
    small = ["dataset.users=150", "dim=8", "backbone.layers=1", "max_len=10", "trainer.progress=false"]
    overrides = [*small, "loss=sampled_softmax", "loss.negatives=5", "trainer.sparse=true"]
    command.main([*overrides, "--epochs", "1", "--catalogue", "1000,3000", "--json", str(out)])
    result = json.loads(out.read_text())
    assert [system["name"] for system in result["systems"]] == ["1000 items", "3000 items"]
    assert result["arguments"][-1] == "--catalogue 1000,3000"
    assert set(result["ratios"]) == {"3000 items"}
    assert "| 3000 items |" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--catalogue 1000: .*trainer.sparse=true"):
        command.main([*small, "loss=cross_entropy", "trainer.sparse=true", "--catalogue", "1000"])


def test_catalogues_of_a_method_with_stages_have_a_name_per_stage(monkeypatch):
    def timed(command, *_):
        systems = [asdict(Timing(f"seqrec, stage {n}", 9, 9, [1.0 * n], [1.0])) for n in (1, 2)]
        file = next(word for word in command if word.startswith("--json=")).removeprefix("--json=")
        Path(file).write_text(json.dumps({"systems": systems, "start_to_first_step": 1.0}))

    monkeypatch.setattr(catalogue, "run_command", timed)
    found = [Timing.of(system) for system in catalogue.time_catalogues([1000, 2000], [], 1)["systems"]]
    assert [timing.name for timing in found] == [f"{size} items, stage {n}" for size in (1000, 2000) for n in (1, 2)]
    assert ratios(found).keys() == {"2000 items, stage 1", "2000 items, stage 2"}
    assert ratios(found)["2000 items, stage 2"]["epoch_median"] == 1
    assert "\n1000 items / 2000 items, stage 1: " in report(found)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", "what: exit code -9"),
        ("import sys; print('error: a\\n  there are: b', file=sys.stderr); sys.exit(1)", "what: a\n  there are: b"),
        ("raise KeyError(5)", "what: KeyError: 5"),
    ],
)
def test_a_command_that_fails_says_why(code, why):
    with pytest.raises(UserError) as refused:
        processes.run_command([sys.executable, "-c", code], "what")
    assert str(refused.value) == why


def test_a_catalogue_that_is_too_small_is_refused():
    with pytest.raises(UserError, match=r"--catalogue: '1000,5'.* 1000 items"):
        command.main(["--catalogue", "1000,5"])


# ---------------------------------------------------------------- processes


def test_one_process_and_two_take_turns(monkeypatch, tmp_path, capsys):
    asked = []

    def rates_of_run(overrides, epochs, count):
        asked.append((overrides, epochs, count))
        return [100 * count + len(asked)] * epochs

    monkeypatch.setattr(processes, "rates_of_run", rates_of_run)
    out = tmp_path / "figures.json"
    command.main(["dim=8", "--processes", "--epochs", "2", "--json", str(out)])
    assert asked == [(["dim=8"], 2, 1), (["dim=8"], 2, 2)] * processes.ROUNDS
    found = json.loads(out.read_text())
    assert found["one"] == [101, 101, 103, 103, 105, 105]
    assert found["ratio"] == 204 / 103
    out = capsys.readouterr().out
    assert "two processes: 204 targets/s" in out
    assert "1.98" in out


@pytest.mark.slow
def test_the_rates_of_one_process_and_of_two_are_those_of_runs(tmp_path):
    for count in (1, 2):
        rates = processes.rates_of_run(SMALL, 2, count)
        assert len(rates) == 2
        assert min(rates) > 0
    with pytest.raises(UserError, match=r"--processes, trainer.devices=1: .*no_such_key"):
        processes.rates_of_run(["no_such_key=1"], 1, 1)
