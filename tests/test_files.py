"""Files are whole or absent, whatever goes wrong while they are written."""

import errno
import io
import json
import os
from pathlib import Path

import pytest

from seqrec.utils.files import write_atomically, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_replaces_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"", b"first", b"second \0 \xff"):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["a.bin"]


def test_json_comes_back(tmp_path):
    value = {"name": "Größe", "values": [1, 0.1, None, True], "inner": {"b": 1, "a": 2}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == value
    assert "Größe" in text
    assert list(json.loads(text)["inner"]) == ["b", "a"]
    assert text.endswith("}\n")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert (tmp_path / "a.json").read_text("utf-8") == text


def test_the_bytes_reach_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), sync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to))[1])
    write_atomically(tmp_path / "a.bin", b"content")
    assert calls == ["fsync", "replace"]


class FullDisk(io.FileIO):
    """Takes half of what is written to it."""

    def write(self, content):
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(Path, "open", lambda self, mode: FullDisk(self, mode))
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(path, b"new content")
    monkeypatch.undo()
    assert names(tmp_path) == ([] if old is None else ["a.bin"])
    assert old is None or path.read_bytes() == old


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "a.bin", b"x")
    assert names(tmp_path) == []
