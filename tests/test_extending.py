"""The pages of docs/extending/ and examples/own_method, carried out word for word in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "extending").glob("*.md"))}
FILE = re.compile(r"^(At the end of )?`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    (python .*)$", re.MULTILINE)
TINY = "dataset.users=100 dataset.items=100 dataset.clusters=4 dataset.max_length=20"
SHORT = "dim=8 max_len=10 trainer.max_epochs=1 trainer.progress=false"


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository."""
    for name in ("seqrec", "conf", "docs", "tests", "scripts", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "outputs")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def write_files(page, folder):
    for appended, path, text in FILE.findall(page):
        file = folder / path
        assert file.exists() == bool(appended), path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.write(text)


def execute(command, folder, root=None):
    variables = {name: value for name, value in os.environ.items() if name != "SEQREC_DATA"}
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("python ", f"{sys.executable} ")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=variables | {"PYTHONPATH": str(root or folder)},
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def shortened(command):
    if "train.py" not in command:
        return command
    return f"{command} {SHORT} {'' if 'dataset=' in command else TINY}"


def test_the_table_lists_the_files_of_every_page():
    index = (ROOT / "docs" / "extending.md").read_text()
    rows = re.findall(r"^\| \[.+?\]\(extending/(.+?)\.md\) \| (.+?) \| (.*?) \|$", index, re.MULTILINE)
    named = {name: re.findall("`([^`]+)`", files + test) for name, files, test in rows}
    shown = {
        name: [path for _, path, _ in FILE.findall(page) if not path.startswith("data/")]
        for name, page in PAGES.items()
    }
    assert named == shown
    assert all(len(paths) <= 4 for paths in named.values())


@pytest.mark.slow
def test_everything_at_once(copy):
    """One run with all additions; each alone, with its tests, is slow."""
    for page in PAGES.values():
        write_files(page, copy)
    choices = "method=itemdrop backbone=decay loss=hinge noise=stutter eval.metrics=[HR,NDCG,RBP] logger=jsonfile"
    output = execute(f"python train.py {choices} {SHORT} {TINY}", copy)
    assert "RBP@10" in output


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_word_for_word(name, copy):
    write_files(PAGES[name], copy)
    commands = COMMAND.findall(PAGES[name])
    assert commands
    for command in commands:
        output = execute(shortened(command), copy)
        assert "passed" in output if "pytest" in command else "NDCG" in output


@pytest.mark.slow
def test_the_example_word_for_word(copy):
    folder = copy / "examples" / "own_method"
    page = (folder / "README.md").read_text()
    listed = re.findall(r"^    (\S+\.(?:py|yaml)) ", page, re.MULTILINE)
    assert {"mylab/itemdrop.py", "conf/method/itemdrop.yaml"} == set(listed)
    commands = re.findall(r"^    ((?:python|export) .*)$", page, re.MULTILINE)
    assert len(commands) == 6
    execute("\n".join(map(shortened, commands)), folder, root=copy)
    assert len(list(folder.glob("outputs/**/DONE"))) == 5


def test_the_example_is_the_method_of_the_page():
    for path, text in [(path, text) for _, path, text in FILE.findall(PAGES["method"]) if "itemdrop.md" not in path]:
        own = ROOT / "examples" / "own_method" / path.replace("seqrec/methods", "mylab")
        assert path.startswith("tests/") or own.read_text() == text.replace("seqrec.methods.itemdrop", "mylab.itemdrop")
