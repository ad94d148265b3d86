"""The other systems that scripts/benchmark.py runs: in which environment, on which data, and what becomes of one that fails."""

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmark_setting import SMALL

from seqrec.commands import benchmark as command
from seqrec.utils.errors import UserError


@pytest.fixture
def launch(script):
    return script("peers.launch")


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
        told["header"] = Path(told["folder"], told["dataset"], f"{told['dataset']}.inter").read_text().split("\n")[0]
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
    assert told["header"] == "user_id:token\titem_id:token\ttimestamp:float"
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
