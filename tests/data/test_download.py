"""Downloads, from a server of this machine's own."""

import gzip
import hashlib
import http.server
import threading
import zipfile

import pytest

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


@pytest.fixture
def server(tmp_path):
    """A server of this machine's own: url of the folder it serves, the folder, and the paths requested."""
    folder = tmp_path / "served"
    folder.mkdir()
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            requested.append(self.path)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", folder, requested
        listening.shutdown()
        thread.join()


def test_download_once(tmp_path, server):
    url, folder, requested = server
    (folder / "other.txt").write_bytes(CONTENT)
    data = tmp_path / "new" / "data"
    for _ in range(2):
        dataset = known(url=f"{url}/other.txt", file=["set.txt", "sub/other.txt"], **GOOD).load(
            data, tmp_path / "cache"
        )
        assert items_of(dataset) == [5, 6, 6, 7, 8]
        assert dataset.warnings == ()
    assert requested == ["/other.txt"]
    assert [path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()] == ["sub/other.txt"]
    assert (data / "sub" / "other.txt").read_bytes() == CONTENT


def test_download_of_an_archive(tmp_path, server):
    url, folder, _ = server
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("set/README", "x")
        archive.writestr("set/u.data", CONTENT)
    options = {"file": ["u.data", "set.zip"], "member": "set/u.data", "url": f"{url}/set.zip"}
    md5 = hashlib.md5((folder / "set.zip").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"has md5 {md5}, expected {'0' * 32}"):
        known(**options, md5={"set.zip": "0" * 32}, **GOOD).load(tmp_path / "data", tmp_path / "cache")
    assert list((tmp_path / "data").iterdir()) == []
    dataset = known(**options, md5={"set.zip": md5}, **GOOD).load(tmp_path, tmp_path / "cache")
    assert dataset.sha256 == GOOD["sha256"]
    assert dataset.warnings == ()
    assert (tmp_path / "set.zip").exists()


def test_a_stated_md5_is_that_of_the_file_with_its_name(tmp_path, server):
    url, folder, _ = server
    (folder / "set.gz").write_bytes(gzip.compress(CONTENT))
    md5 = hashlib.md5((folder / "set.gz").read_bytes()).hexdigest()
    options = {"file": ["set.txt", "set.gz"], "url": f"{url}/set.gz"}
    with pytest.raises(UserError, match="md5 tells what to expect"):
        known(**options, md5={"set.txt": md5}).load(tmp_path / "data", tmp_path / "cache")
    fetched = known(**options, md5={"set.gz": md5})
    assert fetched.load(tmp_path / "data", tmp_path / "cache").warnings == ()
    (tmp_path / "data" / "set.txt").write_bytes(CONTENT)  # unpacked: comes first, and nothing is stated of it
    assert fetched.load(tmp_path / "data", tmp_path / "cache").warnings == ()
    (warning,) = known(md5={"set.txt": md5}).load(tmp_path / "data", tmp_path / "cache").warnings
    assert warning.endswith(f"set.txt has md5 {hashlib.md5(CONTENT).hexdigest()}, expected {md5}")


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
        known(url=f"{url}/set.txt", **GOOD).load(tmp_path / "data", tmp_path / "cache")
    assert list((tmp_path / "data").iterdir()) == []


def test_download_that_fails(tmp_path, server):
    url, *_ = server
    by_hand = (
        "get it from https://home.example and put it there as set.txt "
        f"(SEQREC_DATA or data_dir={tmp_path} is the folder)"
    )
    with pytest.raises(UserError) as caught:
        known(url=f"{url}/set.txt", **GOOD).load(tmp_path, tmp_path / "cache")
    reason = f"404 Client Error: File not found for url: {url}/set.txt"
    assert str(caught.value) == f"dataset=set: cannot download {url}/set.txt ({reason})\n  {by_hand}"
    with pytest.raises(UserError) as caught:
        known(url="http://127.0.0.1:1/set.txt", **GOOD).load(tmp_path, tmp_path / "cache")
    assert (
        str(caught.value) == f"dataset=set: cannot download http://127.0.0.1:1/set.txt (ConnectionError)\n  {by_hand}"
    )
    assert not list(tmp_path.glob("*set.txt*"))


def test_download_into_no_folder(tmp_path, server):
    url, folder, _ = server
    (folder / "set.txt").write_bytes(CONTENT)
    (tmp_path / "occupied").write_text("")
    with pytest.raises(UserError, match=rf"data_dir={tmp_path}/occupied: cannot write there \(File exists\)"):
        known(url=f"{url}/set.txt", **GOOD).load(tmp_path / "occupied", tmp_path / "cache")
