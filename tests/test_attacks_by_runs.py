"""What run directories of strangers cannot do, nor the names that reports show. docs/security.md gives the rules."""

import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from attack_setting import ODD_YAML, write
from job_setting import SHORT

from seqrec.build import load
from seqrec.cli import compose_config
from seqrec.commands.train import job
from seqrec.data.cache import cached
from seqrec.report import tables
from seqrec.report.grids import Grid
from seqrec.report.page import _grid
from seqrec.runs.reader import ranks_of
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.plain_yaml import read_plain

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
