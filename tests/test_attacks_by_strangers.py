"""What files of strangers cannot do: one table of attacks for each way in. docs/security.md gives the rules."""

import copy
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hydra.errors import HydraException
from job_setting import SHORT

from seqrec.build import load
from seqrec.cli import compose_config
from seqrec.commands.train import job
from seqrec.config import apply_variant, run_path
from seqrec.data.cache import cached
from seqrec.data.source import FileDataset
from seqrec.report import tables
from seqrec.report.grids import Grid
from seqrec.report.page import _grid
from seqrec.runs.reader import ranks_of
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate, make
from seqrec.utils.plain_yaml import LARGEST, read_plain

ROOT = Path(__file__).parents[1]
EVIL = "\nevil: {x: {_target_: torch.utils.collect_env.run, command: touch ran}}\n"
LAUGHS = "a: &a [1, 1]\nb: &b [*a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b]\n"
ODD_YAML = {
    "a Python object": "x: !!python/object/apply:os.system [touch ran]\n",
    "a tag of its own": "x: !evil y\n",
    "binary": "x: !!binary aWQ=\n",
    "aliases of aliases": LAUGHS,
    "an alias of itself": "x: &x [*x" + ", *x" * 20 + "]\n",
    "deep nesting": "x: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep maps": "".join(f"{' ' * level}x:\n" for level in range(100)),
    "too large": f"x: {'y' * LARGEST}\n",
    "no text": b"\xff\xfe\x00\x01",
    "control characters": "x: \x00\x01\n",
    "no YAML": "x: [1, 2\n",
}
EXPERIMENTS = {  # an experiment file that must not be composed
    "callback os.system": "hydra: {callbacks: {x: {_target_: os.system, command: touch ran}}}",
    "callback past Hydra's own list": "hydra: {callbacks: {x: {_target_: torch.utils.collect_env.run, command: touch ran}}}",
    "callback of Hydra's own": "hydra: {callbacks: {x: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback}}}",
    "callbacks elsewhere": "hydra: {callbacks: '${evil}'}" + EVIL,
    "a callback elsewhere": "hydra: {callbacks: {x: '${evil.x}'}}" + EVIL,
    "a factory of job_logging": "hydra: {job_logging: {formatters: {f: {(): os.system, command: touch ran}}}}",
    "a factory of hydra_logging": "hydra: {hydra_logging: {handlers: {f: {(): os.system, command: touch ran}}}}",
    "a handler that writes": "hydra: {job_logging: {root: {handlers: [h]}, handlers: {h: {class: logging.FileHandler, filename: x}}}}",
    "a handler that sends": "hydra: {job_logging: {handlers: {h: {class: logging.handlers.HTTPHandler, host: h, url: u}}}}",
    "a logger that is switched on": "hydra: {job_logging: {root: {level: INFO}}}",
    "logging elsewhere": "hydra: {hydra_logging: '${evil}'}" + EVIL,
    "another launcher": "hydra: {launcher: {_target_: os.system}}",
    "an argument of the launcher": "hydra: {launcher: {x: {_target_: os.system, command: touch ran}}}",
    "a launcher elsewhere": "hydra: {launcher: '${evil.x}'}" + EVIL,
    "a launcher in a file": "defaults: [override /hydra/launcher: theirs]",
    "Hydra's launcher in another file": "defaults: [override /hydra/launcher: basic]",
    "another sweeper": "hydra: {sweeper: {_target_: os.system}}",
    "a sampler of the sweeper": "hydra: {sweeper: {sampler: {_target_: os.system, command: touch ran}}}",
    "an object as a sweep": "hydra: {sweeper: {params: {seed: {_target_: os.system, command: touch ran}}}}",
    "an object as all sweeps": "hydra: {sweeper: {params: {_target_: torch.utils.collect_env.run, command: touch ran}}}",
    "a sweep elsewhere": "hydra: {sweeper: {params: '${evil}'}}" + EVIL,
    "a sweep over a secret": "hydra: {sweeper: {params: {seed: '${oc.env:HOME}'}}}",
    "a sweep over urls": "hydra: {sweeper: {params: {dataset.url: '${names:${variants}}'}}}",
    "a variable of the environment": "hydra: {job: {env_set: {LD_PRELOAD: x.so}}}",
    "a variable that is copied": "hydra: {job: {env_copy: [HOME]}}",
    "another working directory": "hydra: {job: {chdir: true}}",
    "another run directory": "hydra: {run: {dir: /tmp/x}}",
    "another sweep directory": "hydra: {sweep: {dir: /tmp}}",
    "another directory of a job": "hydra: {sweep: {subdir: ../../x}}",
    "files of Hydra's elsewhere": "hydra: {output_subdir: ../../x}",
    "a package to search": "hydra: {searchpath: ['pkg://antigravity']}",
    "the whole node elsewhere": "hydra: '${evil}'" + EVIL,
    "the folder of the data": "data_dir: scripts",
    "the folder of the data from the environment": "data_dir: '${oc.env:HOME}'",
    "the cache": "cache_dir: /tmp/x",
    "a secret in the url": "dataset: {url: 'http://h/${oc.env:HOME}'}",
    "a url elsewhere": "dataset: {url: '${evil.x.command}'}" + EVIL,
    "a data set elsewhere": "dataset: '${evil.x}'" + EVIL,
    **ODD_YAML,
}
SHADOWS = {"a launcher in a file": "theirs", "Hydra's launcher in another file": "basic"}
TARGETS = [
    *("os.system", "builtins.eval", "subprocess.Popen", "torch.load", "torch.hub.load", "pathlib.Path", "pickle.loads"),
    *(
        "seqrec.runs.directory.json.loads",
        "seqrec.utils.trust.os.system",
        "seqrec.build.objects.make",
        "seqrec.runs.directory.RunDir",
        "seqrec.api.Model",
        "torch.optim.adam.torch.load",
    ),
    *(
        "seqrec",
        "seqrec.",
        ".",
        "",
        "seqrec..methods",
        "../seqrec.x",
        "seqrec.methods.base.Method.__init__",
        None,
        5,
        {},
        [],
    ),
]
RUNS = {  # a config.yaml that is no plain data
    "a secret": "dataset: {url: 'http://h/${oc.env:HOME}'}",
    "a secret in disguise": 'dataset: {url: "http://h/\\x24{oc.env:HOME}"}',
    "a secret in a list": "dataset: {file: [a, ['${oc.env:HOME}']]}",
    "a reference": "dataset: {name: '${method.name}'}",
    "a number": "5",
    "a list": "[1, 2]",
    "nothing": "",
    "no date": "x: 2001-99-99",
    "too long a number": f"x: {'9' * 5000}",
    **ODD_YAML,
}
CONFIG = compose_config(["noise=insert"])
FILES = ["../x", "/etc/passwd", "a/../../b", "a\0b", ["x.txt", "../x"], ".."]
NAMES = ["../../x", "/abs", "a/b", "..", ".hidden", "a\\b", "a\nb", "a\0b", "a" * 300]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory in which no attack may leave a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    yield tmp_path
    assert not list(tmp_path.rglob("ran"))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def experiment_of(here, name, content):
    """Write an experiment file of a stranger's; returns the overrides that choose it."""
    header = "# @package _global_\n"
    write(
        here / "conf" / "experiment" / f"{name}.yaml",
        header.encode() + content if isinstance(content, bytes) else header + content,
    )
    return [f"hydra.searchpath=[file://{here / 'conf'}]", f"experiment={name}"]


@pytest.mark.parametrize("attack", EXPERIMENTS)
def test_an_experiment_file_is_refused_before_hydra_acts(here, attack):
    if attack in SHADOWS:
        write(
            here / "conf" / "hydra" / "launcher" / f"{SHADOWS[attack]}.yaml",
            "_target_: os.system\ncommand: touch ran\n",
        )
    given = experiment_of(here, "theirs", EXPERIMENTS[attack])
    with pytest.raises((UserError, HydraException)):
        compose_config(given, return_hydra_config=True)


@pytest.mark.parametrize("path", ["pkg://theirs", "file://x"])
def test_a_main_configuration_cannot_add_folders(here, path, monkeypatch):
    write(here / "theirs" / "__init__.py", "open('ran', 'w')")
    write(here / "conf" / "config.yaml", f"hydra: {{searchpath: ['{path}']}}\n")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr("seqrec.cli.conf_folder", lambda: here / "conf")
    with pytest.raises(UserError, match=r"hydra\.searchpath"):
        compose_config([])


def test_an_ordinary_experiment_file_and_the_users_own_keys_are_fine(here):
    sweep = "{seed: '1,2', variant: '${names:${variants}}'}"
    content = f"hydra: {{mode: MULTIRUN, sweeper: {{params: {sweep}}}}}\nvariants: {{a: {{dim: 8}}}}"
    own = ["hydra.run.dir=x", "+hydra.job.env_set.X=1", "data_dir=d", "cache_dir=c", "+hydra.callbacks.x._target_=a.B"]
    config = compose_config([*experiment_of(here, "own", content), *own], return_hydra_config=True)
    assert config.hydra.sweeper.params.variant == "a"
    assert (config.hydra.run.dir, config.data_dir) == ("x", "d")


def test_the_users_own_key_opens_no_other(here):
    given = experiment_of(here, "theirs", "hydra: {callbacks: {theirs: {_target_: os.system}}}")
    with pytest.raises(UserError, match=r"hydra\.callbacks\.theirs\._target_"):
        compose_config([*given, "+hydra.callbacks.mine._target_=a.B"])


def test_a_variant_cannot_send_a_secret(here):
    given = experiment_of(
        here, "theirs", "defaults: [override /dataset: beauty]\nvariants: {a: {'dataset[url]': '${oc.env:HOME}'}}"
    )
    with pytest.raises(UserError, match=r"dataset\.url"):
        apply_variant(compose_config([*given, "variant=a"]))


@pytest.mark.parametrize("path", TARGETS, ids=str)
def test_a_target_is_a_class_of_seqrec(path):
    with pytest.raises(UserError, match="not a class of"):
        locate(path)


def test_a_nested_target_is_one_too(here):
    with pytest.raises(UserError, match="not a class of"):
        make({"_target_": "seqrec.methods.base.Method", "spec": {"_target_": "os.system", "command": "touch ran"}})


@pytest.mark.parametrize("attack", RUNS)
def test_the_configuration_of_a_run_is_plain_data(here, attack):
    write(here / "run" / "config.yaml", RUNS[attack])
    for read in (lambda: read_plain(here / "run" / "config.yaml"), lambda: load(here / "run")):
        with pytest.raises(UserError) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1


def test_a_pipe_is_no_configuration(here):
    os.mkfifo(here / "config.yaml")
    with pytest.raises(UserError, match="no regular file"):
        read_plain(here / "config.yaml")


@pytest.mark.parametrize("file", FILES, ids=repr)
def test_a_file_of_a_data_set_is_a_name_below_data_dir(file):
    with pytest.raises(UserError, match=r"dataset\.file"):
        FileDataset(name="x", reader="pairs", file=file)


@pytest.mark.parametrize("key", ["dataset.name", "backbone.name", "method.name", "noise.name", "seed", "fusion.name"])
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_does_not_leave_the_output_directory(key, name):
    config, group = copy.deepcopy(CONFIG), key.partition(".")[0]
    config[group] = name if key == group else {**config[group], "name": name}
    if (path := refused_or(lambda: run_path(config))) is not None:
        assert len(Path(path).parts) == 4
        assert not {"..", "/"} & set(Path(path).parts)


def refused_or(call):
    try:
        return call()
    except UserError:
        return None


def test_a_download_needs_something_to_check_it_with(here, monkeypatch):
    monkeypatch.setattr("seqrec.data.source.download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(UserError, match="sha256"):
        FileDataset(name="x", reader="pairs", file="x.txt", url="http://h/x.txt").load(here, here / "cache")


@pytest.fixture
def run(here):
    """A finished run on a file of data, and a function that changes its configuration."""
    rows = "".join(f"{user} {' '.join(str((user * step) % 17 + 1) for step in range(1, 8))}\n" for user in range(1, 30))
    write(here / "data" / "d.txt", rows)
    config = compose_config(
        [*SHORT, "dataset=beauty", "method=popularity", "eval.cutoffs=[5,10]", f"data_dir={here / 'data'}"][5:]
    )
    config.dataset.update(
        {"file": "d.txt", "sha256": None, "url": None, "users": None, "items": None, "interactions": None}
    )
    job(config, here / "run")

    def change(**changes):
        path = here / "run" / "config.yaml"
        values = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            (values["dataset"] if key in values["dataset"] else values)[key] = value
        path.write_text(yaml.safe_dump(values))
        return here / "run"

    return change


def test_a_run_downloads_nothing(run, here, monkeypatch):
    monkeypatch.setattr("seqrec.data.source.download", lambda *_: pytest.fail("downloaded"))
    for folder in ("missing", "data"):
        with pytest.raises(UserError, match=r"x\.py is not in"):
            load(run(url="http://h/x.py", sha256="0" * 64, file="x.py", data_dir=str(here / folder)))


def test_a_run_does_not_choose_the_cache(run, here):
    load(run(cache_dir=str(here / "theirs")))
    assert not (here / "theirs").exists()
    assert (here / "users").exists()


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("way", ["path", "file"])
def test_a_run_shows_no_line_of_another_file(run, here, complete, way):
    write(here / "shadow", "root:secret:1\n")
    changes = (
        {"file": None, "path": str(here / "shadow")} if way == "path" else {"file": "shadow", "data_dir": str(here)}
    )
    folder = run(reader="pairs", **changes)
    if not complete:
        (folder / "DONE").unlink()
        torch.save({"config_hash": "x", "model": {}}, folder / "best.pt")
    with pytest.raises(UserError) as caught:
        load(folder)
    assert "secret" not in str(caught.value)


class Pickled:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
@pytest.mark.parametrize("way", ["torch", "pickle", "zip"])
def test_a_checkpoint_runs_nothing(here, name, way):
    if way == "torch":
        torch.save({"model": Pickled()}, here / name)
    elif way == "pickle":
        (here / name).write_bytes(pickle.dumps(Pickled()))
    else:
        with zipfile.ZipFile(here / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Pickled()))
    with pytest.raises(UserError, match="damaged"):
        Checkpoints(here, "0", "0").load(name)


def test_prepared_copies_and_ranks_run_nothing(here):
    for name in ("cache.npz", "ranks_test.npz"):
        np.savez(here / name, **{key: np.array([Pickled()], object) for key in ("user", "target", "better", "equal")})
    arrays, warnings = cached(here / "cache.npz", lambda: {"items": np.arange(3)})
    assert list(arrays) == ["items"]
    assert "broken" in warnings[0]
    with pytest.raises(ValueError, match="allow_pickle"):
        ranks_of(here)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula(name):
    assert tables.to_csv(pd.DataFrame({"row": [name]})).split("\n", 1)[1].lstrip('"').startswith("'")


@pytest.mark.parametrize(
    "name", [r"\input{/etc/passwd}", r"\write18{touch ran}", "$x$", "a_b", "a%b", "~", "^^5cinput", "#1", "{", "&"]
)
def test_a_name_is_no_command_of_latex(name):
    shown = tables.escaped(name)
    for command in (
        r"\textbackslash{}",
        r"\textasciitilde{}",
        r"\textasciicircum{}",
        *("\\" + char for char in "&%$#_{}"),
    ):
        shown = shown.replace(command, "")
    assert not set(shown) & set("\\{}$%_#&~^")


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><svg/onload=1>", "&lt;b"]
)
def test_a_name_is_no_html(name):
    shown = _grid(Grid("x", name, name, pd.DataFrame({"row": [name], name: [name]})), heading=True)
    assert name not in shown
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<svg" not in shown


def call(here, *arguments):
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "train.py", *arguments]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, env=variables)


LOGGING = "hydra: {job_logging: {formatters: {f: {(): torch.utils.collect_env.run, command: touch ran}}, root: {level: INFO}}}"


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        (EXPERIMENTS["callback past Hydra's own list"], ["dry_run=true"]),
        (LOGGING, ["-m", "seed=1,2"]),
        pytest.param(LOGGING, ["-m", "experiment=own,theirs"], marks=pytest.mark.slow),
        pytest.param(LOGGING, ["-m", "experiment=own,theirs", "hydra/launcher=joblib"], marks=pytest.mark.slow),
        pytest.param(
            "hydra: {overrides: {hydra: ['+hydra.job.env_set.X=1']}, mode: MULTIRUN}", [], marks=pytest.mark.slow
        ),
        pytest.param(
            "hydra: {mode: MULTIRUN, sweeper: {params: {+hydra.job.env_set.X: 1}}}", [], marks=pytest.mark.slow
        ),
    ],
)
def test_the_command_line_refuses(here, content, arguments):
    experiment_of(here, "own", "seed: 1")
    experiment_of(here, "theirs", content)
    chosen = [] if any(argument.startswith("experiment=") for argument in arguments) else ["experiment=theirs"]
    answer = call(here, "--config-dir", "conf", *arguments, *chosen, "method=popularity", *SHORT[:3])
    assert answer.returncode != 0
    assert "a configuration file must not set it" in answer.stderr
    assert "Traceback" not in answer.stderr
