"""Odd input that is fine, and what is warned of instead of refused."""

import gzip
import io
import time
import zipfile

import numpy as np
import pytest

from seqrec.data import delimited
from seqrec.data.source import FileDataset

TABLE = {"reader": "table", "user_column": "uid", "item_column": "iid"}
INTER = b"user_id:token\titem_id:token\ttimestamp:float\n"
REVIEW = b'{"reviewerID": "A", "asin": "x", "overall": 5.0, "unixReviewTime": 10}\n'


def load(tmp_path, content, **options):
    path = tmp_path / "raw"
    path.write_bytes(content)
    return FileDataset(**{"name": "own", "reader": "sequence", "path": str(path)} | options).load(
        tmp_path, tmp_path / "cache"
    )


def histories(dataset):
    """Raw user id -> list of raw item ids."""
    parts = np.split(dataset.item_ids[dataset.items], dataset.offsets[1:-1])
    return {user: part.tolist() for user, part in zip(dataset.user_ids.tolist(), parts, strict=True)}


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "1 2\n")
    return stream.getvalue()


ODD = {
    "one item": (b"1 5\n2 6 7\n", {}, {1: [5], 2: [6, 7]}),
    "duplicate lines": (b"1 5\n1 5\n2 6\n", {"reader": "pairs"}, {1: [5, 5], 2: [6]}),
    "user on two lines": (b"2 5 6\n1 7\n2 8\n", {}, {1: [7], 2: [5, 6, 8]}),
    "item id 0": (b"1 0 3\n2 3 0\n", {}, {1: [0, 3], 2: [3, 0]}),
    "user id 0": (b"0 4\n", {}, {0: [4]}),
    "windows line ends": (b"1 5 6\r\n2 7\r\n", {}, {1: [5, 6], 2: [7]}),
    "old Mac line ends": (b"1 5 6\r2 7\r", {}, {1: [5, 6], 2: [7]}),
    "byte-order mark": (b"\xef\xbb\xbf1 5 6\n", {}, {1: [5, 6]}),
    "no line end at the end": (b"1 5\n2 6", {}, {1: [5], 2: [6]}),
    "blank lines": (b"\n1 5\n\n  \n2 6\n\n\n", {}, {1: [5], 2: [6]}),
    "tabs and runs of blanks": (b" 1\t5   6 \n2\t 7\n", {}, {1: [5, 6], 2: [7]}),
    "gzip under a plain name": (gzip.compress(b"1 5 6\n"), {}, {1: [5, 6]}),
    "gzip of a byte-order mark": (gzip.compress(b"\xef\xbb\xbf1 5\n"), {}, {1: [5]}),
    "zip of one": (zipped("some/file"), {}, {1: [2]}),
    "zip with a member": (zipped("a", "b"), {"member": "b"}, {1: [2]}),
    "member of a plain file": (b"1 2\n", {"member": "b"}, {1: [2]}),
    "pairs, blank and unended lines": (b"1 5\r\n\r\n2 6", {"reader": "pairs"}, {1: [5], 2: [6]}),
    "pairs of text": (b"ann x\nbob y\nann z\n", {"reader": "pairs"}, {"ann": ["x", "z"], "bob": ["y"]}),
    "pairs with leading zeros": (b"1 007\n1 7\n", {"reader": "pairs"}, {1: ["007", "7"]}),
    "csv, windows line ends and mark": (
        b"\xef\xbb\xbfa,b,5,2\r\na,c,5,1\r\n\r\n",
        {"reader": "amazon_csv"},
        {"a": ["c", "b"]},
    ),
    "csv, old Mac line ends": (b"a,b,5,2\ra,c,5,1\r", {"reader": "amazon_csv"}, {"a": ["c", "b"]}),
    "csv, ids that look like missing": (
        b"NA,null,5,1\nnan,None,5,1\n",
        {"reader": "amazon_csv"},
        {"NA": ["null"], "nan": ["None"]},
    ),
    "csv, a quote in an id": (b'a"b,c,5,1\n', {"reader": "amazon_csv"}, {'a"b': ["c"]}),
    "recbole, windows line ends": (
        INTER.replace(b"\n", b"\r\n") + b"1\t5\t2\r\n1\t6\t1\r\n",
        {"reader": "recbole"},
        {1: [6, 5]},
    ),
    "recbole without timestamp": (
        b"item_id:token\tuser_id:token\n5\t1\n4\t1\n",
        {"reader": "recbole"},
        {1: [5, 4]},
    ),
    "table, quotes": (
        b'uid,"title",iid\r\na,"x, ""y""\r\nz",b\r\n"a",5" disk,c\r\n',
        TABLE,
        {"a": ["b", "c"]},
    ),
    "table, mark and blank lines": (b"\xef\xbb\xbfuid,iid\n\na,b\n  \nc,d\n\n", TABLE, {"a": ["b"], "c": ["d"]}),
    "table, blanks after commas": (b"uid, iid\na, b\n", TABLE, {"a": ["b"]}),
    "table, hashed ids below zero": (b"uid,iid\n-9,5\n-9,-4\n", TABLE, {-9: [5, -4]}),
    "table, ids beyond int64": (b"uid,iid\n1,18446744073709551615\n", TABLE, {1: ["18446744073709551615"]}),
    "JSON, blank line and mark": (b"\xef\xbb\xbf" + REVIEW + b"\n", {"reader": "amazon_json"}, {"A": ["x"]}),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_but_fine(case, tmp_path):
    content, options, expected = ODD[case]
    dataset = load(tmp_path, content, **options)
    assert histories(dataset) == expected
    assert dataset.warnings == ()


def test_quoted_fields_do_not_take_the_slow_way(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "check_lines", None)
    content = b'uid,title,iid\na,"x, ""y"",\nz",b\na,w,c\n'
    assert histories(load(tmp_path, content, **TABLE)) == {"a": ["b", "c"]}


def test_a_gap_of_ids_costs_nothing(tmp_path):
    began = time.monotonic()
    dataset = load(tmp_path, b"1 5 999999999999999999 10000000\n900000000000 5\n")
    assert time.monotonic() - began < 1
    assert dataset.item_ids.tolist() == [0, 5, 10_000_000, 999_999_999_999_999_999]
    assert dataset.items.tolist() == [1, 3, 2, 1]
    assert dataset.user_ids.tolist() == [1, 900_000_000_000]


def test_wrong_checksum_and_counts_are_warnings(tmp_path):
    dataset = load(tmp_path, b"1 2 3\n", sha256="0" * 64, users=1, items=3, interactions=2)
    assert dataset.warnings == (
        f"dataset=own: {tmp_path}/raw has items 2, expected 3",
        f"dataset=own: {tmp_path}/raw has sha256 {dataset.sha256}, expected {'0' * 64}",
    )


def test_counts_are_those_before_filters(tmp_path):
    content = b"1 2 3\n2 2 3\n3 4\n"
    dataset = load(tmp_path, content, users=3, items=3, interactions=5, k_core=2)
    assert histories(dataset) == {1: [2, 3], 2: [2, 3]}
    assert dataset.warnings == ()
