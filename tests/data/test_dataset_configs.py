"""The data sets that conf/ names, and the script that prepares them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.data.readers import NAMES
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

CONF = Path(__file__).parents[2] / "conf"


def named_configs():
    names = [path.stem for path in sorted((CONF / "dataset").glob("*.yaml"))]
    return [name for name in names if name != "synthetic"]


@pytest.mark.parametrize("name", named_configs())
def test_config(name, tmp_path):
    config = OmegaConf.to_container(configure(f"dataset={name}").dataset)
    assert config.pop("_target_") == "seqrec.data.source.FileDataset"
    dataset = FileDataset(**config)
    assert dataset.name == name
    assert dataset.reader in NAMES
    assert dataset.min_rating is None
    assert dataset.k_core == (5 if name in ("amazon-2018", "amazon-2023") else None)
    header = (CONF / "dataset" / f"{name}.yaml").read_text().split("_target_")[0]
    assert header.startswith("# ")
    if name == "file":
        return
    assert dataset.home
    counts = (dataset.users, dataset.items, dataset.interactions)
    known = [count for count in counts if count is not None]  # others are not published, or of a file that grows
    assert known or "ounts are not checked" in header
    assert all(str(count) in header for count in known)
    assert dataset.url is None or len(known) == 3
    for file, md5 in (dataset.md5 or {}).items():
        assert len(md5) == 32, file
    assert dataset.sha256 is None or len(dataset.sha256) == 64
    with pytest.raises(UserError, match=f"^dataset={name}: .* is not in "):
        FileDataset(**config | {"url": None}).load(tmp_path, tmp_path / "cache")


def test_configs_stand_for_different_files():
    configs = [OmegaConf.load(CONF / "dataset" / f"{name}.yaml") for name in named_configs() if name != "file"]
    for key in ("file", "sha256"):
        values = [json.dumps(OmegaConf.to_container(config)[key]) for config in configs if config[key] is not None]
        assert len(set(values)) == len(values)


def run_script(*arguments):
    script = CONF.parent / "scripts" / "prepare.py"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_script(tmp_path):
    (tmp_path / "clicks.csv").write_text("uid,iid\na,x\na,y\nb,x\n")
    run = run_script(
        "file",
        f"cache_dir={tmp_path}/cache",
        f"dataset.path={tmp_path}/clicks.csv",
        "dataset.user_column=uid",
        "dataset.item_column=iid",
    )
    assert run.returncode == 0, run.stderr
    told = dict(line.split(maxsplit=1) for line in run.stdout.replace("cached copy", "cached_copy").splitlines())
    assert {name: told[name] for name in ("users", "items", "interactions", "mean_length")} == {
        "users": "2",
        "items": "2",
        "interactions": "3",
        "mean_length": "1.5",
    }
    assert told["sha256"] == hashlib.sha256((tmp_path / "clicks.csv").read_bytes()).hexdigest()
    assert [told["cached_copy"]] == list(map(str, (tmp_path / "cache").glob("*.npz")))


@pytest.mark.slow
def test_script_tells_what_is_wrong_in_two_lines(tmp_path):
    run = run_script("games", f"data_dir={tmp_path}", f"cache_dir={tmp_path}/cache")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith(f"error: dataset=games: Video_Games.txt is not in {tmp_path}\n")
    assert run.stderr.count("\n") == 2
