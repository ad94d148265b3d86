"""Finding, fetching, checking and keeping a data set."""

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqrec.data import cache, source
from seqrec.data.dataset import Dataset
from seqrec.data.readers import NAMES
from seqrec.data.source import FileDataset
from seqrec.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
CONTENT = b"1 5 6\n2 6 7 8\n"
GOOD = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "users": 2, "items": 4, "interactions": 5}


def known(**options):
    return FileDataset(
        **{"name": "set", "reader": "sequence", "file": "set.txt", "home": "https://home.example"} | options
    )


def items_of(dataset):
    return dataset.item_ids[dataset.items].tolist()


@pytest.fixture
def server(tmp_path):
    """A server of this machine's own: url of the folder it serves, the folder, and the paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", folder, asked
        listening.shutdown()
        thread.join()


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
        f"  get it from https://home.example and put it there as set.txt (SEQREC_DATA or data_dir={tmp_path}/none is the folder)"
    )


def test_download_once(tmp_path, server):
    url, folder, asked = server
    (folder / "other.txt").write_bytes(CONTENT)
    data = tmp_path / "new" / "data"
    for _ in range(2):
        dataset = known(url=f"{url}/other.txt", file=["set.txt", "sub/other.txt"], **GOOD).load(
            data, tmp_path / "cache"
        )
        assert items_of(dataset) == [5, 6, 6, 7, 8]
        assert dataset.warnings == ()
    assert asked == ["/other.txt"]
    assert [path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()] == ["sub/other.txt"]
    assert (data / "sub" / "other.txt").read_bytes() == CONTENT


def test_download_of_an_archive(tmp_path, server):
    url, folder, _ = server
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("set/README", "x")
        archive.writestr("set/u.data", CONTENT)
    options = {"file": ["u.data", "set.zip"], "member": "set/u.data", "url": f"{url}/set.zip"}
    dataset = known(**options, **GOOD).load(tmp_path, tmp_path / "cache")
    assert dataset.sha256 == GOOD["sha256"]
    assert dataset.warnings == ()
    assert (tmp_path / "set.zip").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sha256": "0" * 64}, f"has sha256 {GOOD['sha256']}, expected {'0' * 64}"),
        ({"users": 3}, "has users 2, expected 3"),
    ],
)
def test_download_of_another_file(tmp_path, server, wrong, message):
    url, folder, _ = server
    (folder / "set.txt").write_bytes(CONTENT)
    data = tmp_path / "data"
    for _ in range(2):  # the copy prepared at the first time must not let it through
        with pytest.raises(UserError) as caught:
            known(url=f"{url}/set.txt", **(GOOD | wrong)).load(data, tmp_path / "cache")
        assert f"{url}/set.txt gave another file than expected" in str(caught.value)
        assert message in str(caught.value)
        assert str(caught.value).count("\n") == 1
        assert list(data.iterdir()) == []


def test_download_of_a_page_instead_of_data(tmp_path, server):
    url, folder, _ = server
    (folder / "set.txt").write_bytes(b"<html>sign in</html>")
    with pytest.raises(UserError, match=r"^dataset=set: .*line 1: '<html>sign' is not a non-negative integer"):
        known(url=f"{url}/set.txt").load(tmp_path / "data", tmp_path / "cache")
    assert list((tmp_path / "data").iterdir()) == []


def test_download_that_fails(tmp_path, server):
    url, *_ = server
    by_hand = f"get it from https://home.example and put it there as set.txt (SEQREC_DATA or data_dir={tmp_path} is the folder)"
    with pytest.raises(UserError) as caught:
        known(url=f"{url}/set.txt").load(tmp_path, tmp_path / "cache")
    reason = f"404 Client Error: File not found for url: {url}/set.txt"
    assert str(caught.value) == f"dataset=set: cannot download {url}/set.txt ({reason})\n  {by_hand}"
    with pytest.raises(UserError) as caught:
        known(url="http://127.0.0.1:1/set.txt").load(tmp_path, tmp_path / "cache")
    assert (
        str(caught.value) == f"dataset=set: cannot download http://127.0.0.1:1/set.txt (ConnectionError)\n  {by_hand}"
    )
    assert not list(tmp_path.glob("*set.txt*"))


def test_download_into_no_folder(tmp_path, server):
    url, folder, _ = server
    (folder / "set.txt").write_bytes(CONTENT)
    (tmp_path / "occupied").write_text("")
    with pytest.raises(UserError, match=rf"data_dir={tmp_path}/occupied: cannot write there \(File exists\)"):
        known(url=f"{url}/set.txt").load(tmp_path / "occupied", tmp_path / "cache")


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
    assert isinstance(again, Dataset)
    assert again == again  # noqa: PLR0124
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
        {"reader": "table", "user_column": "a"},
        {"reader": "table", "separator": ","},
    ],
)
def test_copies_of_other_options_are_other_files(tmp_path, change):
    assert known().cache_file("0", tmp_path) != known(**change).cache_file("0", tmp_path)
    assert known().cache_file("0", tmp_path) != known().cache_file("1", tmp_path)


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


def without_offsets(content):
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in arrays.items() if name != "offsets"})
    return stream.getvalue()


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b"", lambda content: b"rubbish"])
def test_broken_copy_is_rebuilt(tmp_path, damage):
    numbers = np.random.default_rng(0).integers(1, 500, 3000)
    (tmp_path / "set.txt").write_text("1 " + " ".join(map(str, numbers)) + "\n")
    first = known().load(tmp_path, tmp_path / "cache")
    copy = known().cache_file(first.sha256, tmp_path / "cache")
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
            f"cache_dir={tmp_path}/cache: cannot write there (No space left on device); set cache_dir to a folder of yours"
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


def named_configs():
    names = [path.stem for path in sorted((CONF / "dataset").glob("*.yaml"))]
    return [name for name in names if name != "synthetic"]


@pytest.mark.parametrize("name", named_configs())
def test_config(name, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=[f"dataset={name}"]).dataset)
    assert config.pop("_target_") == "seqrec.data.source.FileDataset"
    dataset = FileDataset(**config)
    assert dataset.name == name
    assert dataset.reader in NAMES
    assert (dataset.min_rating, dataset.k_core) == (None, None)
    header = (CONF / "dataset" / f"{name}.yaml").read_text().split("_target_")[0]
    assert header.startswith("# ")
    if name == "file":
        return
    assert dataset.home
    assert None not in (dataset.users, dataset.items, dataset.interactions)
    assert all(str(count) in header for count in (dataset.users, dataset.items, dataset.interactions))
    assert dataset.sha256 is None or len(dataset.sha256) == 64
    with pytest.raises(UserError, match=f"^dataset={name}: .* is not in "):
        FileDataset(**config | {"url": None}).load(tmp_path, tmp_path / "cache")


def test_configs_stand_for_different_files():
    configs = [OmegaConf.load(CONF / "dataset" / f"{name}.yaml") for name in named_configs() if name != "file"]
    for key in ("file", "sha256"):
        values = [json.dumps(OmegaConf.to_container(config)[key]) for config in configs if config[key] is not None]
        assert len(set(values)) == len(values)
