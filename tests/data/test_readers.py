"""Every reader against the rows that were written into its format."""

import functools
import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqrec.data.columns import Columns
from seqrec.data.raw import RawFile, open_raw
from seqrec.data.readers import NAMES, read

WHOLE = st.integers(0, 10**18 - 1)
TIME = st.integers(-(2**40), 2**40).map(float)
RATING = st.sampled_from([0.5, 1.0, 3.25, 5.0])
WORD = st.text(st.characters(codec="utf-8", categories=("L", "N", "Po")), min_size=1, max_size=6).filter(
    lambda word: not set(word) & set('",:;|\t ') and word == word.strip()
)
ROW = st.tuples(WHOLE, WHOLE, RATING, TIME)
TEXT_ROW = st.tuples(WORD, WORD, RATING, TIME)
COLUMNS = Columns("uid", "iid", "when", "stars")
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(raw):
    """Return the interactions as tuples (user, item, rating, time) with raw ids, None where there is none."""
    none = [None] * len(raw.user)
    rating = none if raw.rating is None else raw.rating.tolist()
    time = none if raw.time is None else raw.time.tolist()
    users, items = raw.user_ids[raw.user].tolist(), raw.item_ids[raw.item].tolist()
    return list(zip(users, items, rating, time, strict=True))


def lines(rows, separator):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write_pairs(rows):
    return lines([row[:2] for row in rows], " ")


def write_movielens(rows):
    return lines(rows, "\t")


def write_ratings_dat(rows):
    return lines(rows, "::")


def write_amazon_csv(rows):
    return lines(rows, ",")


def write_recbole(rows):
    header = "rating:float\titem_id:token\ttitle:token_seq\ttimestamp:float\tuser_id:token\n"
    return header + lines([(rating, item, "a b", time, user) for user, item, rating, time in rows], "\t")


def write_json(rows):
    keys = ("reviewerID", "asin", "overall", "unixReviewTime")
    reviews = ({"reviewText": 'so "good"'} | dict(zip(keys, row, strict=True)) for row in rows)
    return "".join(json.dumps(review) + "\n" for review in reviews)


def write_records(rows):
    return "".join(json.dumps(dict(zip(("uid", "iid", "stars", "when"), row, strict=True))) + "\n" for row in rows)


def write_literals(rows):
    return "".join(f"{dict(zip(('uid', 'iid', 'stars', 'when'), row, strict=True))}\n" for row in rows)


def write_table(rows, separator=","):
    header = separator.join(["when", "title", "uid", "stars", "iid"]) + "\n"
    quoted = '"a ""b""' + separator + '\n c"'
    return header + lines([(time, quoted, user, rating, item) for user, item, rating, time in rows], separator)


FORMATS = {
    "pairs": ("pairs", write_pairs, ROW, (True, True, False, False)),
    "pairs of text": ("pairs", write_pairs, TEXT_ROW, (True, True, False, False)),
    "u.data": ("movielens", write_movielens, ROW, (True,) * 4),
    "ratings.dat": ("movielens", write_ratings_dat, ROW, (True,) * 4),
    "amazon_csv": ("amazon_csv", write_amazon_csv, TEXT_ROW, (True,) * 4),
    "recbole": ("recbole", write_recbole, ROW, (True,) * 4),
    "recbole of text": ("recbole", write_recbole, TEXT_ROW, (True,) * 4),
    "amazon_json": ("amazon_json", write_json, TEXT_ROW, (True,) * 4),
    "table": ("table", write_table, ROW, (True,) * 4),
    "json": ("json", write_records, TEXT_ROW, (True,) * 4),
    "json of Python": ("json", write_literals, TEXT_ROW, (True,) * 4),
    "table of text": ("table", write_table, TEXT_ROW, (True,) * 4),
}


def as_read(ids):
    """The documented rule: ids are integers if all of them are written as Python writes an integer."""
    try:
        whole = [int(word) for word in ids]
    except ValueError:
        return ids
    fits = all(-(2**63) <= number < 2**63 for number in whole)
    return whole if fits and [str(number) for number in whole] == ids else ids


@pytest.mark.parametrize("name", FORMATS)
@relaxed
@given(data=st.data(), packed=st.booleans())
def test_round_trip(name, data, packed, tmp_path):
    reader, write, row, kept = FORMATS[name]
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    path = tmp_path / "raw"
    content = write(rows).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    raw = read(open_raw(path, None), reader, COLUMNS)
    users, items, ratings, times = (list(column) for column in zip(*rows, strict=True))
    users, items = as_read(list(map(str, users))), as_read(list(map(str, items)))
    expected = [users, items, ratings, times]
    expected = [column if there else [None] * len(rows) for column, there in zip(expected, kept, strict=True)]
    assert rows_of(raw) == list(zip(*expected, strict=True))
    for codes, ids in ((raw.user, raw.user_ids), (raw.item, raw.item_ids)):
        assert codes.dtype == np.int32
        assert ids.dtype.kind in "iU"
        assert len(set(ids.tolist())) == len(ids)
        assert set(codes.tolist()) == set(range(len(ids)))


@relaxed
@given(
    st.lists(st.lists(st.integers(1, 10**18 - 1), min_size=1, max_size=5), min_size=1, max_size=8),
    st.sampled_from(["-1", "0"]),
)
def test_round_trip_padded(tmp_path, histories, padding):
    path = tmp_path / "raw"
    path.write_text(lines([[padding] * (6 - len(items)) + items for items in histories], ","))
    expected = [(user, item, None, None) for user, items in enumerate(histories, 1) for item in items]
    assert rows_of(read(RawFile(path), "padded", COLUMNS)) == expected


@relaxed
@given(st.lists(st.tuples(WHOLE, st.lists(WHOLE, min_size=1, max_size=5)), min_size=1, max_size=8))
def test_round_trip_sequence(tmp_path, histories):
    path = tmp_path / "raw"
    path.write_text(lines([(user, *items) for user, items in histories], " "))
    expected = [(user, item, None, None) for user, items in histories for item in items]
    assert rows_of(read(RawFile(path), "sequence", COLUMNS)) == expected


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("given_as", ["found", "given"])
def test_separators(separator, given_as, tmp_path):
    rows = [("a", "x", 4.0, 2.0), ("b", "y", 1.5, 1.0)]
    path = tmp_path / "raw"
    path.write_text(write_table(rows, separator))
    spelling = {"\t": r"\t"}.get(separator, separator) if given_as == "given" else None
    assert rows_of(read(RawFile(path), "table", Columns("uid", "iid", "when", "stars", spelling))) == rows


def test_blanks_as_separator(tmp_path):
    path = tmp_path / "raw"
    path.write_text("uid  iid\na   x\n\nb y\n")
    rows = [("a", "x", None, None), ("b", "y", None, None)]
    assert rows_of(read(RawFile(path), "table", Columns("uid", "iid"))) == rows
    assert rows_of(read(RawFile(path), "table", Columns("uid", "iid", separator=" "))) == rows


def test_the_separator_that_gives_the_wanted_names_wins(tmp_path):
    path = tmp_path / "raw"
    path.write_text("uid;a,b,c,d;iid\nu;1,2,3,4;x\n")
    assert rows_of(read(RawFile(path), "table", Columns("uid", "iid"))) == [("u", "x", None, None)]


def test_dates_become_unix_seconds(tmp_path):
    path = tmp_path / "raw"
    stamps = ["1970-01-02", "2014-04-07T10:51:09.277Z", "2014-04-07 12:51:09+02:00"]
    path.write_text("uid,iid,when\n" + "".join(f"a,x,{stamp}\n" for stamp in stamps))
    raw = read(RawFile(path), "table", Columns("uid", "iid", "when"))
    assert raw.time.tolist() == [86400.0, 1396867869.277, 1396867869.0]


@pytest.mark.parametrize("zone", [None, "Europe/Rome"])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_parquet(tmp_path, unit, zone):
    when = pd.Series(pd.to_datetime([3, 1, 2], unit="s")).astype(f"datetime64[{unit}]")
    if zone:
        when = when.dt.tz_localize("UTC").dt.tz_convert(zone)
    frame = pd.DataFrame(
        {"extra": [None] * 3, "uid": [7, 5, 7], "iid": ["x", "y", "x"], "when": when, "stars": [1, 2, 3]}
    )
    frame.to_parquet(tmp_path / "raw")
    rows = rows_of(read(RawFile(tmp_path / "raw"), "table", COLUMNS))
    assert rows == [(7, "x", 1.0, 3.0), (5, "y", 2.0, 1.0), (7, "x", 3.0, 2.0)]


@pytest.mark.parametrize("hole", [None, "", " \t"])
def test_parquet_with_a_hole(tmp_path, hole):
    pd.DataFrame({"uid": ["a", hole], "iid": [1, 2]}).to_parquet(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"raw, row 2: the column 'uid' is empty; correct or remove the row$"):
        read(RawFile(tmp_path / "raw"), "table", Columns("uid", "iid"))


@pytest.mark.parametrize(
    "when", [["1970-01-02", "1970-01-01T00:00:01Z"], [date(1970, 1, 2), date(1970, 1, 1)], ["86400", "1"]]
)
def test_parquet_with_dates_and_numbers_as_text(tmp_path, when):
    pd.DataFrame({"uid": ["a", "b"], "iid": [1, 2], "when": when}).to_parquet(tmp_path / "raw")
    raw = read(RawFile(tmp_path / "raw"), "table", Columns("uid", "iid", "when"))
    assert raw.time.tolist() == [86400.0, 0.0 if isinstance(when[1], date) else 1.0]


@pytest.mark.parametrize(
    ("when", "wanted"),
    [([1.0, float("inf")], "finite number"), (["1970-01-02", "soon"], "date"), (["3", "1970-01-02"], "finite number")],
)
def test_parquet_with_something_else_than_a_time(tmp_path, when, wanted):
    pd.DataFrame({"uid": ["a", "b"], "iid": [1, 2], "when": when}).to_parquet(tmp_path / "raw")
    with pytest.raises(ValueError, match=rf"raw, row 2: the column 'when' holds no {wanted}"):
        read(RawFile(tmp_path / "raw"), "table", Columns("uid", "iid", "when"))


def test_parquet_with_ratings(tmp_path):
    frame = pd.DataFrame({"uid": ["a", "b"], "iid": [1, 2], "liked": [True, False], "stars": ["2020-01-01"] * 2})
    frame.to_parquet(tmp_path / "raw")
    read_with = functools.partial(read, RawFile(tmp_path / "raw"), "table")
    assert read_with(Columns("uid", "iid", rating="liked")).rating.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"raw, row 1: the column 'stars' holds no finite number"):
        read_with(Columns("uid", "iid", rating="stars"))


def test_blanks_around_the_names_of_columns_do_not_count(tmp_path):
    (tmp_path / "raw").write_text(" u ,i , t\na,x,3\n")
    for user in ("u", "u "):
        raw = read(RawFile(tmp_path / "raw"), "table", Columns(user, "i", "t"))
        assert rows_of(raw) == [("a", "x", None, 3.0)]


def test_parquet_with_lists(tmp_path):
    pd.DataFrame({"uid": ["a"], "iid": [[1, 2]]}).to_parquet(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"raw: the column 'iid' holds lists or records"):
        read(RawFile(tmp_path / "raw"), "table", Columns("uid", "iid"))


def test_zip_member_and_its_hash(tmp_path):
    content = b"1\t2\t3\t4\n"
    with zipfile.ZipFile(tmp_path / "ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml/README", "read me")
        archive.writestr("ml/u.data", content)
    (tmp_path / "u.data").write_bytes(content)
    inside, plain = open_raw(tmp_path / "ml.zip", "ml/u.data"), open_raw(tmp_path / "u.data", "ml/u.data")
    assert inside.sha256() == plain.sha256()
    assert (
        rows_of(read(inside, "movielens", COLUMNS)) == rows_of(read(plain, "movielens", COLUMNS)) == [(1, 2, 3.0, 4.0)]
    )
    assert str(inside) == f"{tmp_path}/ml.zip:ml/u.data"


@pytest.mark.parametrize("content", [b"1 2\n", gzip.compress(b"1 2\n", mtime=0)])
def test_hash_is_of_the_stored_bytes(tmp_path, content):
    (tmp_path / "raw").write_bytes(content)
    assert RawFile(tmp_path / "raw").sha256() == hashlib.sha256(content).hexdigest()


def test_every_reader_is_tried_here():
    assert {reader for reader, *_ in FORMATS.values()} | {"sequence", "padded", "mind"} == set(NAMES)


def test_reading_does_not_import_torch():
    code = "import sys, seqrec.data.source; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
