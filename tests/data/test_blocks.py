"""Files that are read in many small blocks give what they give in one, and the same messages."""

import numpy as np
import pytest

from seqrec.data import parquet, raw, records
from seqrec.data.columns import Columns
from seqrec.data.raw import open_raw
from seqrec.data.readers import read
from seqrec.utils.errors import UserError

COLUMNS = Columns("user", "item", "time", "rating")
FIELDS = ("user", "item", "user_ids", "item_ids", "time", "rating")


@pytest.fixture
def small(monkeypatch):
    """Function that makes all blocks tiny."""

    def make():
        monkeypatch.setattr(raw, "BLOCK", 64)
        monkeypatch.setattr(parquet, "AT_ONCE", 7)
        monkeypatch.setattr(records, "AT_ONCE", 7)

    return make


def interactions(count=200):
    generator = np.random.default_rng(0)
    users = [f"u{number}" for number in generator.integers(0, 40, count)]
    items = generator.integers(0, 30, count).tolist()
    times, ratings = generator.integers(0, 10**9, count).tolist(), generator.integers(1, 6, count).tolist()
    return list(zip(users, items, times, ratings, strict=True))


def table(rows, text=lambda user: user):
    return "user,item,time,rating\n" + "".join(f"{text(u)},{i},{t},{r}\n" for u, i, t, r in rows)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS if getattr(one, name) is not None
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text", [lambda user: user, lambda user: f'"{user}\n, ü"'], ids=["plain", "line ends in quotes"]
)
def test_a_table(tmp_path, small, end, text):
    (tmp_path / "raw").write_bytes(table(interactions(), text).replace("\n", end).rstrip().encode())
    whole = read(open_raw(tmp_path / "raw", None), "table", COLUMNS)
    small()
    assert same(read(open_raw(tmp_path / "raw", None), "table", COLUMNS), whole)
    assert len(whole.user) == 200


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        ("sequence", lambda u, i, t, r: f"{u[1:]} {i} {t}"),
        ("padded", lambda u, i, t, r: f"-1,9{u[1:]},9{i}"),
        ("pairs", lambda u, i, t, r: f"{u} {i}"),
        ("movielens", lambda u, i, t, r: f"{u}::{i}::{r}::{t}"),
        ("amazon_csv", lambda u, i, t, r: f"{u},{i},{r},{t}"),
        ("json", lambda u, i, t, r: f'{{"user": "{u}", "item": {i}, "time": {t}, "rating": {r}}}'),
    ],
)
def test_other_layouts(tmp_path, small, reader, line):
    (tmp_path / "raw").write_text("\n\n\n" + "\n".join(line(*row) for row in interactions()) + "\n\n\n")
    columns = COLUMNS if reader == "json" else Columns()
    whole = read(open_raw(tmp_path / "raw", None), reader, columns)
    small()
    assert same(read(open_raw(tmp_path / "raw", None), reader, columns), whole)


def test_parquet_and_the_parts_of_a_folder(tmp_path, small):
    pandas = pytest.importorskip("pandas")
    rows = interactions()
    (tmp_path / "parts").mkdir()
    pandas.DataFrame(rows[:90], columns=["user", "item", "time", "rating"]).to_parquet(tmp_path / "parts" / "a.parquet")
    (tmp_path / "parts" / "b.csv").write_text(table(rows[90:]))
    (tmp_path / "all.csv").write_text(table(rows))
    whole = read(open_raw(tmp_path / "all.csv", None), "table", COLUMNS)
    assert whole.item_ids.dtype == np.int64  # numbers in one part, text in the other
    assert same(read(open_raw(tmp_path / "parts", None), "table", COLUMNS), whole)
    small()
    assert same(read(open_raw(tmp_path / "parts", None), "table", COLUMNS), whole)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines[150].replace(",", ";", 1), "3 columns, where 4 are expected"),
        (lambda lines: lines[150].rpartition(",")[0] + ",many", "rating 'many' is not a finite number"),
        (lambda lines: "   " + lines[150][lines[150].index(",") :], "the column 'user' is empty"),
        (lambda lines: lines[150].rpartition(",")[0] + ",inf", "rating 'inf' is not a finite number"),
        (lambda lines: "\udcff" + lines[150], "byte 0xff is not utf-8"),
    ],
)
def test_a_fault_in_a_late_block_is_named_by_its_line(tmp_path, small, change, problem):
    lines = table(interactions()).splitlines()
    lines[150] = change(lines)
    (tmp_path / "raw").write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    small()
    with pytest.raises(UserError, match=f"line 151: {problem}"):
        read(open_raw(tmp_path / "raw", None), "table", COLUMNS)


def test_a_faulty_row_of_a_late_batch(tmp_path, small):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(interactions(), columns=["user", "item", "time", "rating"])
    frame.loc[150, "user"] = " "
    frame.to_parquet(tmp_path / "raw")
    small()
    with pytest.raises(UserError, match="row 151: the column 'user' is empty"):
        read(open_raw(tmp_path / "raw", None), "table", COLUMNS)
