"""The installed wheel, in another folder than the checkout's and without it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seqrec.commands.console import COMMANDS

ROOT = Path(__file__).parents[1]
SMALL = ("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "trainer.max_epochs=1")
FROM_NOTEBOOK = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the wheel was installed; nothing is built in the checkout, nothing downloaded."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("seqrec", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    shutil.rmtree(source)
    return folder / "site"


def call(installed, cwd, *arguments):
    # seqrec of the folder comes before one that the environment has in editable form
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_help_names_all_commands():
    text = yaml.safe_load((ROOT / "conf" / "hydra" / "help" / "seqrec.yaml").read_text())["template"]
    assert re.search(r"seqrec COMMAND --help +(.*)", text).group(1).split(", ") == list(COMMANDS)


@pytest.mark.slow
def test_the_wheel_holds_the_whole_configuration(installed):
    def files(folder):
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}

    assert files(installed / "seqrec" / "conf") == files(ROOT / "conf")
    assert not (installed / "conf").exists()
    assert not (installed / "tests").exists()


@pytest.mark.slow
def test_the_console_script_trains_sweeps_and_reports(installed, tmp_path):
    seqrec = installed / "bin" / "seqrec"
    where = call(installed, tmp_path, "-c", "import seqrec; print(seqrec.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed)
    answer = call(installed, tmp_path, seqrec, *SMALL)
    assert answer.returncode == 0, answer.stderr
    (done,) = (tmp_path / "outputs" / "synthetic" / "none" / "sasrec-plain").glob("*/DONE")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    answer = call(installed, tmp_path, seqrec, "-m", "method=popularity,markov", *SMALL[:3], *joblib)
    assert answer.returncode == 0, answer.stderr
    assert len(list(tmp_path.rglob("DONE"))) == 3
    answer = call(installed, tmp_path, seqrec, "evaluate", done.parent)
    assert answer.stdout.startswith("HR@5"), answer.stderr
    answer = call(installed, tmp_path, seqrec, "report", "outputs", "--output", "report")
    assert answer.returncode == 0, answer.stderr
    assert list((tmp_path / "report").glob("*.html"))


@pytest.mark.slow
def test_the_console_script_answers_mistakes(installed, tmp_path):
    seqrec = installed / "bin" / "seqrec"
    for arguments, message in (
        (("trainer.max_epoch=3",), "did you mean 'trainer.max_epochs'?"),
        (("experiment=lma4rec/papr",), "did you mean 'lma4rec/paper'?"),
        (("reprot", "outputs"), "did you mean 'report'?"),
        (("benchmark", "--against-floor"), "in a checkout only"),
    ):
        answer = call(installed, tmp_path, seqrec, *arguments)
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: ")
        assert message in answer.stderr
    answer = call(installed, tmp_path, seqrec, "evaluate", "--help")
    assert answer.stdout.startswith("usage: seqrec evaluate ")
    assert "seqrec COMMAND" in call(installed, tmp_path, seqrec, "--help").stdout


@pytest.mark.slow
def test_the_python_of_the_readme(installed, tmp_path):
    answer = call(installed, tmp_path, "-c", FROM_NOTEBOOK)
    assert answer.returncode == 0, answer.stderr
    directory, score, rank = answer.stdout.splitlines()[-2].split()
    assert (tmp_path / directory / "DONE").exists()
    assert 0 < float(score) < 1 < float(rank)
    items = json.loads(answer.stdout.splitlines()[-1])[0]
    assert len(items) == 10
    assert not {1, 2, 3} & set(items)
