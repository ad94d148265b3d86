"""What files of strangers cannot do: one table of attacks for each way in. docs/security.md gives the rules."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attack_setting import ODD_YAML, write
from hydra.errors import HydraException
from job_setting import SHORT

from seqrec.cli import compose_config
from seqrec.config import apply_variant, run_path
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate, make

ROOT = Path(__file__).parents[1]
EVIL = "\nevil: {x: {_target_: torch.utils.collect_env.run, command: touch ran}}\n"
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
CONFIG = compose_config(["noise=insert"])
FILES = ["../x", "/etc/passwd", "a/../../b", "a\0b", ["x.txt", "../x"], ".."]
NAMES = ["../../x", "/abs", "a/b", "..", ".hidden", "a\\b", "a\nb", "a\0b", "a" * 300]


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
