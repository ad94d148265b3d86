"""Finding, fetching, checking and keeping a data set."""

import hashlib
import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest

from seqrec.data import cache, source
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

CONTENT = b"1 5 6\n2 6 7 8\n"
GOOD = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "users": 2, "items": 4, "interactions": 5}


def known(**options):
    return FileDataset(
        **{"name": "set", "reader": "sequence", "file": "set.txt", "home": "https://home.example"} | options
    )


def items_of(dataset):
    return dataset.item_ids[dataset.items].tolist()


def test_found_in_data_dir_first_name_first(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"1 2\n")
    dataset = known(file=["a.txt", "b.txt"]).load(tmp_path, tmp_path / "cache")
    assert items_of(dataset) == [2]
    (tmp_path / "a.txt").write_bytes(b"1 3\n")
    assert items_of(known(file=["a.txt", "b.txt"]).load(str(tmp_path), str(tmp_path / "cache"))) == [3]


def test_missing_without_url(tmp_path):
    with pytest.raises(UserError) as caught:
        known().load(tmp_path / "none", tmp_path / "cache")
    assert str(caught.value) == (
        f"dataset=set: set.txt is not in {tmp_path}/none\n"
        "  get it from https://home.example and put it there as set.txt "
        f"(SEQREC_DATA or data_dir={tmp_path}/none is the folder)"
    )


def same(one, other):
    fields = ("items", "offsets", "user_ids", "item_ids", "times")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in fields if getattr(one, name) is not None
    )


def test_prepared_copy_is_used(tmp_path, monkeypatch):
    (tmp_path / "set.txt").write_bytes(CONTENT)
    first = known().load(tmp_path, tmp_path / "cache")
    monkeypatch.setattr(source, "read", None)
    again = known().load(tmp_path, tmp_path / "cache")
    assert same(first, again)
    assert (again.name, again.sha256) == ("set", GOOD["sha256"])
    copy = known().cache_file(first.sha256, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").glob("*.npz")] == [copy.name]
    assert copy.name.startswith("set-")


@pytest.mark.parametrize(
    "change",
    [
        {"reader": "pairs"},
        {"k_core": 2},
        {"min_rating": 1},
        {"user_column": "a"},
        {"item_column": "a"},
        {"time_column": "a"},
        {"rating_column": "a"},
        {"separator": ","},
        {"encoding": "latin-1"},
        {"header": True},
        {"quotes": False},
        {"keep": {"event": ["view"]}},
        {"attribute_columns": ["brand"]},
    ],
)
def test_copies_of_other_options_are_other_files(tmp_path, change):
    table = known(reader="table")
    assert table.cache_file("0", tmp_path) != known(**{"reader": "table"} | change).cache_file("0", tmp_path)
    assert table.cache_file("0", tmp_path) != table.cache_file("1", tmp_path)


def test_copies_of_the_first_version_stay_good(tmp_path):
    assert known().cache_file("0", tmp_path).name == "set-e0a14e3a7a27f4397b47.npz"


def test_format_is_in_the_key(tmp_path, monkeypatch):
    before = known().cache_file("0", tmp_path)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert known().cache_file("0", tmp_path) != before


def test_text_ids_come_back_from_the_copy(tmp_path):
    (tmp_path / "set.csv").write_text("b,y,5,1\na,ü,5,2\nb,x,5,0\n")
    for _ in range(2):
        dataset = known(file="set.csv", reader="amazon_csv").load(tmp_path, tmp_path / "cache")
        assert dataset.user_ids.tolist() == ["a", "b"]
        assert items_of(dataset) == ["ü", "x", "y"]
        assert dataset.times.tolist() == [2.0, 0.0, 1.0]


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b"", lambda content: b"rubbish"])
def test_broken_copy_is_rebuilt(tmp_path, damage):
    numbers = np.random.default_rng(0).integers(1, 500, 3000)
    (tmp_path / "set.txt").write_text("1 " + " ".join(map(str, numbers)) + "\n")
    first = known().load(tmp_path, tmp_path / "cache")
    copy = known().cache_file(first.sha256, tmp_path / "cache")
    # its pages go with a file that is cut short in place
    first = replace(
        first, **{name: getattr(first, name).copy() for name in ("items", "offsets", "user_ids", "item_ids")}
    )
    copy.write_bytes(damage(copy.read_bytes()))
    rebuilt = known().load(tmp_path, tmp_path / "cache")
    assert same(first, rebuilt)
    assert len(rebuilt.warnings) == 1
    assert rebuilt.warnings[0].startswith(f"the prepared copy {copy} was broken (")
    assert rebuilt.warnings[0].endswith(") and has been rebuilt")
    assert known().load(tmp_path, tmp_path / "cache").warnings == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_killed_while_writing(tmp_path, monkeypatch, error):
    (tmp_path / "set.txt").write_bytes(CONTENT)

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises((KeyboardInterrupt, UserError)) as caught:
            known().load(tmp_path, tmp_path / "cache")
    if isinstance(error, OSError):
        assert str(caught.value) == (
            f"cache_dir={tmp_path}/cache: cannot write there (No space left on device); "
            "set cache_dir to a folder of yours"
        )
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert items_of(known().load(tmp_path, tmp_path / "cache")) == [5, 6, 6, 7, 8]


def test_cache_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "set.txt").write_bytes(CONTENT)
    with pytest.raises(UserError) as caught:
        known().load(tmp_path, tmp_path / "set.txt" / "cache")
    assert str(caught.value) == (
        f"cache_dir={tmp_path}/set.txt/cache: cannot write there (Not a directory); set cache_dir to a folder of yours"
    )


def test_cache_dir_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.pooch, "os_cache", lambda name: str(tmp_path / "home" / name))
    (tmp_path / "set.txt").write_bytes(CONTENT)
    known().load(tmp_path, None)
    assert len(list((tmp_path / "home" / "seqrec").glob("set-*.npz"))) == 1


def prepare_at_once(folder, start, results):
    """One of several processes: waits for the others, loads, and notes what it built and what it got."""
    build = FileDataset._build

    def counted(self, file):
        with (folder / "builds").open("a") as log:
            log.write("built\n")
        return build(self, file)

    FileDataset._build = counted
    start.wait()
    dataset = known().load(folder, folder / "cache")
    results.put((dataset.items.tolist(), dataset.offsets.tolist(), dataset.warnings))


@pytest.mark.slow
def test_four_processes_at_once_build_once(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 10**6, (2000, 50))
    (tmp_path / "set.txt").write_text(
        "".join(f"{user} {' '.join(map(str, row))}\n" for user, row in enumerate(numbers))
    )
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=prepare_at_once, args=(tmp_path, start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert (tmp_path / "builds").read_text() == "built\n"
    assert all(result == got[0] for result in got)
    assert len(got[0][0]) == numbers.size


def test_a_copy_is_mapped_into_memory_and_aligned(tmp_path):
    (tmp_path / "set.csv").write_text("b,y,5,1\na,ü,5,2\nb,x,5,0\n")
    first = known(file="set.csv", reader="amazon_csv").load(tmp_path, tmp_path / "cache")
    again = known(file="set.csv", reader="amazon_csv").load(tmp_path, tmp_path / "cache")
    assert same(first, again)
    for dataset in (first, again):
        for name in ("items", "offsets", "user_ids", "times"):
            array = getattr(dataset, name)
            assert isinstance(array.base, np.memmap)
            assert not array.flags.writeable
            assert array.ctypes.data % 64 == 0
    (copy,) = (tmp_path / "cache").glob("*.npz")
    with np.load(copy) as archive:
        assert np.array_equal(archive["items"], first.items)
    arrays = dict(np.load(copy))
    copy.unlink()
    np.savez(copy, **arrays)  # as earlier versions wrote it
    assert same(known(file="set.csv", reader="amazon_csv").load(tmp_path, tmp_path / "cache"), again)
