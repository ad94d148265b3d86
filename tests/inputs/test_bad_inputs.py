"""One table of bad inputs: each is answered in one or two lines that name what is wrong, and leaves nothing half-written."""

import functools
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import bad_commands
import bad_configurations
import bad_data_files
import bad_values
import pytest
from hydra.core.hydra_config import HydraConfig
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.cli import guarded
from seqrec.commands import prepare, train
from seqrec.config import run_path
from seqrec.data.synthetic import Synthetic
from seqrec.utils.instantiate import make

ROOT = Path(__file__).parents[2]


def rows(table):
    """Return (arguments, what the message names) of each row of a table."""
    split = [
        (shlex.split(line), named) for line, *named in (row if isinstance(row, tuple) else (row,) for row in table)
    ]
    return [(arguments, named or arguments[-1:]) for arguments, named in split]


@pytest.fixture
def answer(monkeypatch, capsys):
    """Function from an entry point and its arguments to what is written on standard error; the exit code must be 1."""

    def call(entry, arguments=(), guard=guarded):
        monkeypatch.setattr(sys, "argv", ["seqrec", *map(str, arguments)])
        for variable in ("HYDRA_FULL_ERROR", "SEQREC_SHORT_ERROR"):
            monkeypatch.setenv(variable, "")  # so that what the call sets is taken back
            monkeypatch.delenv(variable)
        assert guard(entry) == 1
        return capsys.readouterr().err

    yield call
    HydraConfig.instance().cfg = None  # a job of a later test would take its overrides for its own


def check(message, named):
    lines = message.rstrip("\n").split("\n")
    assert any(line.startswith("error: ") for line in lines), message
    assert len(lines) <= 2, message
    assert len(message) < 2000, message
    for word in named:
        assert word in message, message


@pytest.mark.parametrize(("arguments", "named"), rows(bad_configurations.REFUSED), ids=lambda value: " ".join(value))
def test_a_configuration_is_refused_before_data_are_read(answer, tmp_path, monkeypatch, arguments, named):
    monkeypatch.setattr(Synthetic, "load", lambda *_: pytest.fail("the data were read"))
    check(answer(lambda: train.job(configure(*arguments), tmp_path / "run"), arguments), named)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "named"), rows(bad_values.BUILT), ids=lambda value: " ".join(value))
def test_a_configuration_is_refused_when_it_is_built(answer, tmp_path, arguments, named):
    arguments = [*bad_values.SMALL.split(), f"output_dir={tmp_path}", *arguments]
    check(answer(lambda: train.job(configure(*arguments), tmp_path / "run"), arguments), named)
    assert not list(tmp_path.rglob("DONE"))


@pytest.mark.parametrize(
    "odd", ["noise.name=5", "method=autosam method.sampler=null", "method=autosam method.sampler=5"]
)
def test_a_value_of_another_kind_has_a_path(odd):
    assert run_path(configure(*odd.split())).startswith("synthetic/")


FILES = {
    **{
        name: (content, options, ["{file}", *named])
        for name, (content, options, *named) in bad_data_files.FILES.items()
    },
    **{name: (content, options, named) for name, (content, options, *named) in bad_data_files.OPTIONS.items()},
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_data_is_refused(answer, tmp_path, name):
    content, options, named = FILES[name]
    path = tmp_path / "raw"
    path.write_bytes(content)
    node = {"_target_": "seqrec.data.source.FileDataset", "reader": "sequence", "path": str(path)} | options
    message = answer(lambda: make(node, "dataset", name="own").load(tmp_path, tmp_path / "cache"))
    check(message, [word.replace("{file}", str(path)) for word in named])


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Words of the table of commands -> paths."""
    folder = tmp_path_factory.mktemp("places")
    small = [*bad_values.SMALL.split(), "eval.cutoffs=[5,10]"]
    train.job(configure(*small, "method=markov"), folder / "markov")
    (folder / "half").mkdir()
    OmegaConf.save(configure(*small, "backbone.layers=1"), folder / "half" / "config.yaml", resolve=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    for name in ("folder", "results"):
        (folder / name).mkdir()
    (folder / "results" / "tables.yaml").write_text("settings: {}\ntables: {}\n")
    own = ["dataset=file", f"dataset.path={folder / 'gone.csv'}", "dataset.user_column=0", "dataset.item_column=1"]
    train.job(configure("method=popularity", *own, "eval.cutoffs=[5,10]"), folder / "data_run")
    (folder / "gone.csv").unlink()
    for name, old, new in (("changed", "seed: 1", "seed: 2"), ("nameless", "  name: synthetic\n", "")):
        shutil.copytree(folder / "markov", folder / name)
        text = (folder / name / "config.yaml").read_text()
        (folder / name / "config.yaml").write_text(text.replace(old, new))
    return {name: str(folder / name) for name in (*CONTENTS, *PLACES)} | {"out": "out"}


PLACES = ("markov", "half", "folder", "none", "results", "data_run", "changed", "nameless")
EVENTS = "".join(f"u{user},i{(user * step) % 17}\n" for user in range(1, 30) for step in range(1, 8))
CONTENTS = {
    "file": b"some text\n",
    "gone.csv": EVENTS.encode(),
    "unknown.csv": b"x,y,z\n",
    "short.csv": b"user,item\na\n",
    "object.jsonl": b"[1]\n{}\n",
    "cut.jsonl": b"[1]\n[1,\n",
    "nested.jsonl": b"[[1]]\n",
    "deep.jsonl": b"[" * 100_000 + b"\n",
    "digits.jsonl": b"[" + b"1" * 5000 + b"]\n",
    "binary.csv": b"\xff\xfe\0\1",
    "binary.jsonl": b"\xff\xfe\0\1",
    "empty.csv": b"",
    "quote.csv": b'1,"2\n3',
}
COMMANDS = [(name, *row) for name, table in bad_commands.COMMANDS.items() for row in rows(table)]


@pytest.mark.parametrize(
    ("name", "arguments", "named"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_arguments_of_a_command_are_refused(answer, places, tmp_path, monkeypatch, name, arguments, named):
    def filled(words):
        return [
            functools.reduce(lambda text, place: text.replace(f"{{{place}}}", places[place]), places, w) for w in words
        ]

    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"seqrec.commands.{name}").main
    given = filled(arguments)
    console = (main, given, lambda entry: entry())  # it guards itself
    message = answer(*console) if name == "console" else answer(lambda: main(given), given)
    check(message, filled(named))
    assert not list(tmp_path.iterdir())


QUIET = """
import contextlib, io, json, os, shlex, sys
from seqrec.cli import guarded
from seqrec.commands import prepare, train

for line in json.load(sys.stdin):
    os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.argv[1:] = line
    with contextlib.redirect_stderr(io.StringIO()) as written, contextlib.redirect_stdout(io.StringIO()):
        code = guarded(train.main)
    print(json.dumps([code, written.getvalue(), "torch" in sys.modules]), flush=True)
"""


def test_the_whole_command_answers_without_torch(tmp_path):
    """One process for all rows, for each start of Python costs more than the answer."""
    table = rows(bad_configurations.HYDRA)
    given = json.dumps([arguments for arguments, _ in table])
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    answers = subprocess.run(
        [sys.executable, "-c", QUIET], input=given, capture_output=True, text=True, cwd=tmp_path, env=variables
    ).stdout.splitlines()
    for (arguments, named), (code, message, torch) in zip(table, map(json.loads, answers), strict=True):
        assert (code, torch) == (1, False), (arguments, message)
        check(message, named)


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["train.py", "trainer.max_epoch=3"], ["trainer.max_epoch", "'trainer.max_epochs'"]),
        (["scripts/robustness.py", "nowhere", "--ratio=x"], ["--ratio", "'x'"]),
        slow(["scripts/evaluate.py", "nowhere"], ["nowhere"]),
        slow(["scripts/attribute_probe.py"], ["runs"]),
        slow(["scripts/prepare.py", "file", "dataset.reader=pairs", "dataset.path=x"], ["dataset.path=x"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_process_answers_in_two_lines(tmp_path, command, named):
    script, *arguments = command
    answer = subprocess.run([sys.executable, ROOT / script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 1
    check(answer.stderr, named)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    rows([*bad_configurations.REFUSED, *bad_values.BUILT]),
    ids=lambda value: " ".join(value),
)
def test_a_configuration_is_refused_by_the_whole_command(answer, tmp_path, monkeypatch, arguments, named):
    """The tests of the default suite compose in a faster way."""
    monkeypatch.chdir(tmp_path)
    small = bad_values.SMALL.split() if (arguments, named) in rows(bad_values.BUILT) else []
    check(answer(train.main, [*small, *arguments]), named)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_data_is_refused_by_the_command(answer, tmp_path, name):
    content, options, named = FILES[name]
    path = tmp_path / "raw"
    path.write_bytes(content)
    values = {"reader": "sequence", "path": str(path)} | options
    given = ["file", *(f"++dataset.{key}={quoted(value)}" for key, value in values.items()), f"cache_dir={tmp_path}"]
    message = answer(lambda: prepare.main(given), given)
    check(message, [word.replace("{file}", str(path)) for word in named])


def quoted(value):
    """Return a value as Hydra's grammar has it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(inner)}" for key, inner in value.items()) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)
