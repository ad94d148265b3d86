"""A data set of the Hugging Face hub: a local folder stands for it here."""

import sys

import pandas as pd
import pytest

from seqrec.commands.hub import main
from seqrec.data.hub import fetch
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "hub").mkdir()
    pd.DataFrame({"who": ["a", "a", "b"], "what": [3, 5, 3], "when": [9, 8, 7]}).to_csv(
        tmp_path / "hub" / "train.csv", index=False
    )
    return tmp_path


@pytest.mark.slow  # the package is imported for seconds
def test_what_the_package_saved(folder):
    import datasets

    part = datasets.Dataset.from_dict({"who": ["a"], "what": [1]})
    part.save_to_disk(folder / "one")
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(folder / "several")
    for saved, name in (("one", "train"), ("several", "test")):
        assert fetch(str(folder / saved), None, name, folder / "x.parquet") == ["who", "what"]


@pytest.mark.slow
def test_a_part_of_a_data_set_becomes_a_file_of_ones_own(folder, capsys):
    path = folder / "clicks.parquet"
    main([str(folder / "hub"), str(path)])
    assert "who, what, when" in capsys.readouterr().out
    columns = {"user_column": "who", "item_column": "what", "time_column": "when"}
    dataset = FileDataset("own", "table", path=str(path), **columns).load(folder, folder / "cache")
    assert dataset.item_ids[dataset.items].tolist() == [5, 3, 3]
    with pytest.raises(UserError, match="test"):
        fetch(str(folder / "hub"), None, "test", path)
    with pytest.raises(UserError, match="no-such/data"):
        fetch("no-such/data", None, "train", path)
    assert sorted(item.name for item in folder.glob("*.parquet*")) == ["clicks.parquet"]


def test_without_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"seqrec\[huggingface\]"):
        fetch("any", None, "train", folder / "x.parquet")
