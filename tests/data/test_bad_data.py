"""Malformed input and the exact words it meets."""

import gzip
import io
import os
import re
import zipfile

import pandas as pd
import pytest

from seqrec.data import parquet, raw
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

MEND = "; correct or remove the line"
TABLE = {"reader": "table", "user_column": "uid", "item_column": "iid"}
TIMED = TABLE | {"time_column": "when"}
INTER = b"user_id:token\titem_id:token\ttimestamp:float\n"
REVIEW = b'{"reviewerID": "A", "asin": "x", "overall": 5.0, "unixReviewTime": 10}\n'
COLUMNS = "(user, item, rating, timestamp)"


def load(tmp_path, content, **options):
    path = tmp_path / "raw"
    path.write_bytes(content)
    return FileDataset(**{"name": "own", "reader": "sequence", "path": str(path)} | options).load(
        tmp_path, tmp_path / "cache"
    )


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "1 2\n")
    return stream.getvalue()


BAD = {
    "empty file": (b"", {}, "{file} is empty; get the file again"),
    "only line ends": (b"\n\n", {}, "{file} is empty; get the file again"),
    "empty JSON": (b"\n", {"reader": "amazon_json"}, "{file} has no interactions"),
    "header only": (b"uid,iid,when\n", TIMED, "{file} has no interactions"),
    "header only, recbole": (INTER, {"reader": "recbole"}, "{file} has no interactions"),
    "binary": (
        b"\x89PNG\r\n\x1a\n\0\0\0",
        {},
        "{file} is a binary file, or text in UTF-16: if it is, set dataset.encoding=utf-16",
    ),
    "UTF-16": (
        "uid,iid\na,b\n".encode("utf-16"),
        TABLE,
        "{file} is a binary file, or text in UTF-16: if it is, set dataset.encoding=utf-16",
    ),
    "latin-1": (
        b"uid,iid\na,b\nJos\xe9,c\n",
        TABLE,
        "{file}, line 3: byte 0xe9 is not utf-8; set dataset.encoding to that of the file, as in dataset.encoding=latin-1",
    ),
    "latin-1, sequence": (
        b"1 2\n\xff 3\n",
        {},
        "{file}, line 2: byte 0xff is not utf-8; set dataset.encoding to that of the file, as in dataset.encoding=latin-1",
    ),
    "truncated gzip": (
        gzip.compress(b"1 2 3\n" * 1000, mtime=0)[:-12],
        {},
        "{file} is damaged or cut short (Compressed file ended before the end-of-stream marker was reached); "
        "get the file again",
    ),
    "broken gzip": (
        gzip.compress(b"1 2 3\n", mtime=0)[:-8] + b"\1\2\3\4\6\0\0\0",
        {},
        re.compile(r"{file} is damaged or cut short \(CRC check failed .*\); get the file again"),
    ),
    "zip of two": (
        zipped("a", "b"),
        {},
        "{file} is a zip archive: dataset.member must say which file of it\n  it holds: a, b",
    ),
    "zip without the member": (
        zipped("ml/u.data", "b"),
        {"member": "ml/u.date"},
        "{file} is a zip archive: dataset.member=ml/u.date is not in it; did you mean 'ml/u.data'?\n"
        "  it holds: ml/u.data, b",
    ),
    "zip of one, not the member": (
        zipped("a"),
        {"member": "b"},
        "{file} is a zip archive: dataset.member=b is not in it\n  it holds: a",
    ),
    "zip with a password": (
        zipped("a")
        .replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1")
        .replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
        {},
        re.compile(r"{file}:a cannot be unpacked: .*encrypted.*"),
    ),
    "non-integer id": (b"1 2 3\n2 4 x5\n", {}, "{file}, line 2: 'x5' is not a non-negative integer" + MEND),
    "fraction": (b"1 2 3\n\n2 4.0\n", {}, "{file}, line 3: '4.0' is not a non-negative integer" + MEND),
    "commas": (b"1,2,3\n", {}, "{file}, line 1: '1,2,3' is not a non-negative integer" + MEND),
    "negative id": (b"1 2\n2 -3\n", {}, "{file}, line 2: '-3' is not a non-negative integer" + MEND),
    "digits of another script": (
        "1 2\n2 ٣\n".encode(),
        {},
        "{file}, line 2: '٣' is not a non-negative integer" + MEND,
    ),
    "no-break space": (
        "1 2\n2\u00a03\n".encode(),
        {},
        "{file}, line 2: '2\u00a03' is not a non-negative integer" + MEND,
    ),
    "19 digits": (
        b"1 1234567890123456789\n",
        {},
        "{file}, line 1: the id 1234567890123456789 has more than 18 digits" + MEND,
    ),
    "user without items": (b"1 2\n7\n3 4\n", {}, "{file}, line 2: user 7 has no items" + MEND),
    "last user without items": (b"1 2\n7", {}, "{file}, line 2: user 7 has no items" + MEND),
    "three columns in pairs": (
        b"1 2\n\n1 2 3\n",
        {"reader": "pairs"},
        "{file}, line 3: 3 columns, where 2 are expected (user, item)" + MEND,
    ),
    "all lines of another width": (
        b"1 2 3\n",
        {"reader": "pairs"},
        "{file}, line 1: 3 columns, where 2 are expected (user, item)" + MEND,
    ),
    "column missing": (
        b"1\t2\t3\t4\n1\t2\t3\n",
        {"reader": "movielens"},
        "{file}, line 2: 3 columns, where 4 are expected " + COLUMNS + MEND,
    ),
    "column too many, ::": (
        b"1::2::3::4\n1::2::3::4::5\n",
        {"reader": "movielens"},
        "{file}, line 2: 5 columns, where 4 are expected " + COLUMNS + MEND,
    ),
    "column too many": (
        b"a,b,5,1\na,b,c,5,1\n",
        {"reader": "amazon_csv"},
        "{file}, line 2: 5 columns, where 4 are expected " + COLUMNS + MEND,
    ),
    "too many columns everywhere": (
        b"a,b,5,1,x\n",
        {"reader": "amazon_csv"},
        "{file}, line 1: 5 columns, where 4 are expected " + COLUMNS + MEND,
    ),
    "table: a title with a comma": (
        b'uid,title,iid\na,"x, y",b\na,x, y,b\n',
        TABLE,
        "{file}, line 3: 4 columns, where 3 are expected (uid, title, iid)" + MEND,
    ),
    "table: a quote that never ends": (
        b'uid,iid\na,b\nc,"d\ne,f\n',
        TABLE,
        "{file} cannot be read: Error tokenizing data. C error: EOF inside string starting at row 2; "
        "dataset.quotes=false takes quotes as letters",
    ),
    "header with a type in a row": (
        b"user,item,rating,timestamp\na,b,5,1\n",
        {"reader": "amazon_csv"},
        "{file}, line 1: rating 'rating' is not a finite number" + MEND,
    ),
    "timestamp not a number": (
        b"a,b,5,1\na,b,5,yesterday\n",
        {"reader": "amazon_csv"},
        "{file}, line 2: timestamp 'yesterday' is not a finite number" + MEND,
    ),
    "timestamp NaN": (
        INTER + b"1\t2\t3\n1\t2\tnan\n",
        {"reader": "recbole"},
        "{file}, line 3: timestamp 'nan' is not a finite number" + MEND,
    ),
    "timestamp infinite": (
        INTER + b"1\t2\tinf\n",
        {"reader": "recbole"},
        "{file}, line 2: timestamp 'inf' is not a finite number" + MEND,
    ),
    "timestamp empty": (
        INTER + b"1\t2\t3\n\n1\t2\t\n",
        {"reader": "recbole"},
        "{file}, line 4: the column 'timestamp' is empty" + MEND,
    ),
    "rating not a number": (
        b"a,b,five,1\n",
        {"reader": "amazon_csv"},
        "{file}, line 1: rating 'five' is not a finite number" + MEND,
    ),
    "user empty": (b"a,b,5,1\n,b,5,1\n", {"reader": "amazon_csv"}, "{file}, line 2: the column 'user' is empty" + MEND),
    "item blank": (b"a, ,5,1\n", {"reader": "amazon_csv"}, "{file}, line 1: the column 'item' is empty" + MEND),
    "table: date after numbers": (
        b"uid,iid,when\na,b,5\na,b,2014-07-18\n",
        TIMED,
        "{file}, line 3: when '2014-07-18' is not a finite number" + MEND,
    ),
    "table: number after dates": (
        b"uid,iid,when\na,b,2014-07-18\na,b,later\n",
        TIMED,
        "{file}, line 3: when 'later' is no date like 2014-07-18 09:30:00 (nor are all of them numbers)" + MEND,
    ),
    "table: no user_column": (
        b"uid,iid\na,b\n",
        {"reader": "table"},
        "dataset.user_column is not set: give the name or number of the column that holds the user\n"
        "  columns of {file}: uid, iid",
    ),
    "table: missing column": (
        b"uid;iid;time\na;b;1\n",
        TABLE | {"time_column": "tiem"},
        "dataset.time_column=tiem: no such column; did you mean 'time'?\n  columns of {file}: uid, iid, time",
    ),
    "table: wrong separator": (
        b"uid,iid\na,b\n",
        TABLE | {"separator": ";"},
        "dataset.user_column=uid: no such column; did you mean 'uid,iid'?\n  columns of {file}: uid,iid",
    ),
    "table: separator of two": (
        b"uid,iid\na,b\n",
        TABLE | {"separator": "::"},
        "dataset.separator=::: must be one character, or null to find it from the first lines",
    ),
    "table: nothing but quotes": (
        b'uid,iid\na,b\n""',
        TABLE,
        "{file}: an id is empty, or a number is not finite" + MEND,
    ),
    "table: a quoted tab": (b'uid,iid\na,b\n"\t",c\n', TABLE, "{file}, line 3: the column 'uid' is empty" + MEND),
    "table: column twice": (
        b"uid,iid,iid\na,b,c\n",
        TABLE,
        "{file} has two columns 'iid': give the number of one, from 0\n  columns of {file}: uid, iid, iid",
    ),
    "table: cut Parquet": (
        b"PAR1 and so on",
        TABLE,
        re.compile(r"{file} is not a whole Parquet file \(.*\); get the file again"),
    ),
    "recbole: no types": (
        b"user_id\titem_id\n1\t2\n",
        {"reader": "recbole"},
        "{file}, line 1: 'user_id' has no type, as in user_id:token, item_id:token, timestamp:float "
        "(or take reader=table)" + MEND,
    ),
    "recbole: no item": (
        b"user_id:token\titem:token\n1\t2\n",
        {"reader": "recbole"},
        "{file} has no column 'item_id'; its columns: user_id, item",
    ),
    "not JSON": (
        REVIEW + b"{'reviewerID': A}\n",
        {"reader": "amazon_json"},
        "{file}, line 2: no JSON object (or Python dictionary) by itself: {'reviewerID': A}" + MEND,
    ),
    "JSON without asin": (
        REVIEW + b"\n" + REVIEW.replace(b"asin", b"isbn"),
        {"reader": "amazon_json"},
        "{file}, line 3: no field 'asin'; there are reviewerID, isbn, overall, unixReviewTime" + MEND,
    ),
    "JSON list": (
        b"[1]\n",
        {"reader": "amazon_json"},
        "{file}, line 1: no JSON object (or Python dictionary) by itself: [1]" + MEND,
    ),
    "JSON: time as text": (
        REVIEW.replace(b"10}", b'"x"}'),
        {"reader": "amazon_json"},
        "{file}, line 1: unixReviewTime 'x' is neither a number nor a date like 2014-07-18 09:30:00" + MEND,
    ),
    "JSON: time beyond all numbers": (
        REVIEW.replace(b"10}", b"1" + b"0" * 400 + b"}"),
        {"reader": "amazon_json"},
        "{file}, line 1: unixReviewTime 1"
        + "0" * 39
        + " is neither a number nor a date like 2014-07-18 09:30:00"
        + MEND,
    ),
    "JSON: rating NaN": (
        REVIEW.replace(b"5.0", b"NaN"),
        {"reader": "amazon_json"},
        "{file}, line 1: overall nan is not a finite number" + MEND,
    ),
    "JSON: id as list": (
        REVIEW.replace(b'"x"', b"[7]"),
        {"reader": "amazon_json"},
        "{file}, line 1: asin [7] is no id: text or a whole number is needed" + MEND,
    ),
    "JSON: blank id": (
        REVIEW.replace(b'"x"', b'" "'),
        {"reader": "amazon_json"},
        "{file}, line 1: asin ' ' is no id: text or a whole number is needed" + MEND,
    ),
    "JSON: number after dates": (
        REVIEW.replace(b"10}", b'"2014-07-18"}') + REVIEW,
        {"reader": "amazon_json"},
        "{file}, line 2: unixReviewTime 10 is neither a number nor a date like 2014-07-18 09:30:00" + MEND,
    ),
    "JSON: columns by number": (
        REVIEW,
        {"reader": "json", "user_column": 0, "item_column": "asin"},
        "dataset.reader=json: the fields of records have names; give names instead of numbers",
    ),
    "JSON: no item_column": (
        REVIEW,
        {"reader": "json", "user_column": "reviewerID"},
        "dataset.item_column is not set: give the name or number of the column that holds the item",
    ),
    "JSON: deeper than any parser goes": (
        b"[" * 100_000 + b"\n",
        {"reader": "amazon_json"},
        "{file}, line 1: no JSON object (or Python dictionary) by itself: " + "[" * 40 + MEND,
    ),
    "Python that is no literal": (
        b"{'reviewerID': __import__('os').getcwd()}\n",
        {"reader": "amazon_json"},
        "{file}, line 1: no JSON object (or Python dictionary) by itself: {'reviewerID': __import__('os').getcwd()"
        + MEND,
    ),
    "utf-16 that ends within a letter": (
        "uid,iid\na,b\n".encode("utf-16")[:-1],
        TABLE | {"encoding": "utf-16"},
        "{file} is a binary file, or text in UTF-16: if it is, set dataset.encoding=utf-16",
    ),
    "numbers beyond the columns": (
        b"a,b\nc,d\n",
        {"reader": "table", "user_column": 0, "item_column": 2},
        "dataset.item_column=2: there are 2 columns, numbered from 0\n  first line of {file}: a, b",
    ),
    "a name without a header": (
        b"a,b\nc,d\n",
        TABLE | {"header": False},
        "dataset.user_column=uid: without a header line columns have numbers, from 0\n  first line of {file}: a, b",
    ),
    "JSON latin-1": (
        b'{"reviewerID": "\xe9"}\n',
        {"reader": "amazon_json"},
        "{file}, line 1: byte 0xe9 is not UTF-8 (see dataset.encoding)" + MEND,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_message(case, tmp_path):
    content, options, expected = BAD[case]
    with pytest.raises(UserError) as caught:
        load(tmp_path, content, **options)
    message = str(caught.value).replace(str(tmp_path / "raw"), "{file}")
    if isinstance(expected, re.Pattern):
        assert expected.fullmatch(message)
    else:
        assert message == expected
    assert message.count("\n") <= 1


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
