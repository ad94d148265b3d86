"""A configuration may name classes of packages that the user trusts, and nothing can set that trust but the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec.utils import trust
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate

ROOT = Path(__file__).parents[1]
TINY = [
    *(
        "dataset.users=60",
        "dataset.items=50",
        "dataset.max_length=20",
        "dataset.clusters=4",
        "dim=8",
        "max_len=8",
        "backbone.layers=1",
    ),
    *("trainer.max_epochs=1", "trainer.progress=false"),
]
METHOD = """
import os
from pathlib import Path

import torch

from seqrec.methods.base import Method

Path("imported").touch()


def function():
    pass


class Own(Method):
    pass
"""
YAML = "name: own\n_target_: {}\n"
EXPERIMENT = """# @package _global_
trainer: {devices: %d}
method: {_target_: theirs.code.Own}
hydra: {job: {env_set: {SEQREC_TRUST: theirs}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the packages mylab and theirs and a folder of configurations."""
    for package in ("mylab", "theirs"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "code.py").write_text(METHOD)
    (tmp_path / "mylab" / "broken.py").write_text("import no_such_library\n")
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "own.yaml").write_text(YAML.format("mylab.code.Own"))
    (tmp_path / "conf" / "experiment").mkdir()
    for devices in (1, 2):
        (tmp_path / "conf" / "experiment" / f"stranger{devices}.yaml").write_text(EXPERIMENT % devices)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "_folder", str(tmp_path))
    monkeypatch.setattr(trust, "_names", "")
    monkeypatch.setenv("SEQREC_TRUST", "")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mylab", "theirs")]:
        del sys.modules[name]


def call(folder, *command, **environment):
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False, env=variables
    )


def run(folder, *arguments, **environment):
    return call(folder, ROOT / "train.py", "--config-dir", "conf", *arguments, *TINY, **environment)


def test_a_class_of_a_package_in_the_working_directory_needs_trust(folder):
    with pytest.raises(UserError, match=r"(?s)mylab.code.Own: not a class of .*--trust mylab, or SEQREC_TRUST=mylab"):
        locate("mylab.code.Own")
    assert not (folder / "imported").exists()
    trust.trust("mylab")
    assert locate("mylab.code.Own").__name__ == "Own"


@pytest.mark.parametrize(
    "path",
    [
        *("mylab.code.torch.load", "mylab.code.Path", "mylab.code.Method", "mylab.code.function", "mylab.os.system"),
        *("mylab.code.os.system", "mylab.code.Missing", "mylab.missing.Own", "mylab", "Own", "theirs.code.Own"),
        *("pathlib.Path", "os.system", "torch.nn.Linear", "subprocess.Popen", "seqrec.build.objects.Fabric"),
    ],
)
def test_trust_in_one_package_opens_nothing_else(folder, path):
    trust.trust("mylab")
    with pytest.raises(UserError, match="not a class of"):
        locate(path)


def test_a_class_without_a_package_is_refused(folder):
    with pytest.raises(UserError, match="not a class of"):
        locate("Own")


def test_what_a_trusted_module_lacks_is_not_hidden(folder):
    trust.trust("mylab")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        locate("mylab.broken.Own")


def test_the_working_directory_gives_trusted_packages_alone(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(folder))])
    trust.trust("mylab")
    assert locate("mylab.code.Own")
    with pytest.raises(ModuleNotFoundError):
        __import__("theirs.code")


@pytest.mark.parametrize(
    "given", [["--trust", "mylab,other"], ["--trust=mylab,other"], ["--trust=mylab", "--trust", "other"]]
)
def test_the_flag_is_taken_out_of_the_arguments(folder, given):
    assert trust.take_flag(["a=1", *given, "-m"]) == ["a=1", "-m"]
    assert trust.trusted("mylab")
    assert trust.trusted("other")
    assert not trust.trusted("theirs")
    assert trust.flag() == [f"--trust={os.environ['SEQREC_TRUST']}"]


def test_a_flag_without_names_is_refused(folder):
    with pytest.raises(UserError, match="--trust: give the names"):
        trust.take_flag(["a=1", "--trust"])


def test_an_installed_package_can_ask_for_trust(folder, monkeypatch):
    (folder / "theirs.dist-info").mkdir()
    (folder / "theirs.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (folder / "theirs.dist-info" / "entry_points.txt").write_text("[seqrec.plugins]\nany = theirs\n")
    monkeypatch.syspath_prepend(str(folder))
    assert locate("theirs.code.Own")
    with pytest.raises(UserError, match="not a class of"):
        locate("mylab.code.Own")


@pytest.mark.parametrize("path", ["theirs.code.Own", "seqrec.methods.base.Method"])
def test_the_environment_counts_at_start_up_alone(folder, monkeypatch, path):
    """Even where nothing of theirs is named: the second process of a run, started in this environment, may name something."""
    monkeypatch.setenv("SEQREC_TRUST", "theirs")
    with pytest.raises(UserError, match="SEQREC_TRUST=theirs: must be set before the start"):
        locate(path)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_configuration_cannot_set_trust(folder, devices):
    answer = run(folder, f"experiment=stranger{devices}")
    assert answer.returncode == 1
    assert "hydra.job.env_set.SEQREC_TRUST: a configuration file must not set it" in answer.stderr
    assert not (folder / "imported").exists()


@pytest.mark.slow
def test_an_own_method_runs_and_is_evaluated_again(folder):
    assert "--trust mylab" in run(folder, "method=own").stderr
    answer = run(folder, "method=own", "--trust", "mylab")
    assert answer.returncode == 0, answer.stderr
    (done,) = folder.glob("outputs/**/DONE")
    assert "--trust=mylab" in (done.parent / "manifest.json").read_text()
    again = (ROOT / "scripts" / "evaluate.py", str(done.parent))
    evaluated = call(folder, *again, SEQREC_TRUST="mylab")
    assert "NDCG@10" in evaluated.stdout, evaluated.stderr
    assert "--trust mylab" in call(folder, *again).stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["variable", "flag"])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_an_own_method_runs_in_a_sweep(folder, launcher, way):
    trusting = {"SEQREC_TRUST": "mylab"} if way == "variable" else {}
    flag = [] if trusting else ["--trust", "mylab"]
    answer = run(folder, "-m", "seed=1,2", f"hydra/launcher={launcher}", "method=own", *flag, **trusting)
    assert answer.returncode == 0, answer.stderr
    assert len(list(folder.glob("outputs/**/DONE"))) == 2


@pytest.mark.slow
def test_a_worker_of_a_sweep_takes_no_trust_from_a_configuration(folder):
    answer = run(folder, "-m", "seed=1,2", "hydra/launcher=joblib", "experiment=stranger1")
    assert answer.returncode != 0
    assert "a configuration file must not set it" in answer.stderr
    assert not (folder / "imported").exists()
