"""Experiments that are timed in processes of their own: by catalogue, and one process against two."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from benchmark_setting import SMALL

from seqrec.commands import benchmark as command
from seqrec.commands import catalogue, processes
from seqrec.commands.timing import Timing, ratios, report
from seqrec.utils.errors import UserError


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
