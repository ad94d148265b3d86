"""Raw data that never end, grow out of proportion or are no regular file: refused at once."""

import gzip
import io
import os
import zipfile

import pandas as pd
import pytest
from raw_setting import load

from seqrec.data import parquet, raw
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

TABLE = {"reader": "table", "user_column": "uid", "item_column": "iid"}
REVIEW = b'{"reviewerID": "A", "asin": "x", "overall": 5.0, "unixReviewTime": 10}\n'


def test_folder_without_files(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / ".hidden").write_text("1 2")
    with pytest.raises(UserError, match="parts is a folder without files"):
        FileDataset(name="own", reader="sequence", path=str(folder)).load(tmp_path, tmp_path / "cache")
    (folder / "deeper").mkdir()
    with pytest.raises(UserError, match="deeper is no regular file"):
        FileDataset(name="own", reader="sequence", path=str(folder)).load(tmp_path, tmp_path / "cache")


def test_what_never_ends_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="is no regular file"):
            FileDataset(name="own", reader="sequence", path=str(path)).load(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("reader", ["sequence", "amazon_json"])
@pytest.mark.parametrize("packing", ["gzip", "zip", "gzip in zip"])
def test_a_bomb_is_refused_before_it_fills_the_memory(packing, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "ALWAYS_UNPACKED", 2**22)
    content = REVIEW * (2**24 // len(REVIEW))
    if packing == "gzip in zip":
        content = gzip.compress(content)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
    packed = gzip.compress(content) if packing == "gzip" else stream.getvalue()
    assert len(packed) < 2**18
    with pytest.raises(UserError, match=r"raw.* unpacks to more than 100 times its size"):
        load(tmp_path, packed, reader=reader)


def test_what_is_packed_well_is_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "ALWAYS_UNPACKED", 2**10)
    content = b"".join(b"%d %d\n" % (user, user * user) for user in range(5000))
    assert load(tmp_path, gzip.compress(content)).num_users == 5000


def test_more_rows_than_a_parquet_file_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FEW_ROWS", 2**10)
    pd.DataFrame({"uid": [1] * 10**6, "iid": [1] * 10**6}).to_parquet(tmp_path / "raw")
    with pytest.raises(UserError, match="raw claims 1,000,000 rows"):
        load(tmp_path, (tmp_path / "raw").read_bytes(), **TABLE)
