"""The same interactions written in the layouts that people of this field have, and how each file is read."""

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

Row = tuple[int, int, int]  # user, item, unix seconds


def interactions() -> list[Row]:
    """60 users with 5 to 12 of 40 items each, 510 rows in disorder; no user has two at the same time."""
    draw, rows = random.Random(3), []
    for user in range(60):
        items, time = draw.sample(range(40), draw.randint(5, 12)), 1_600_000_000 + 1000 * user
        for item in items:
            time += draw.randint(60, 90_000)
            rows.append((user, item, time))
    draw.shuffle(rows)
    return rows


ROWS = interactions()


def history(user: int) -> list[int]:
    """Items of a user, oldest first."""
    return [item for _, item in sorted((time, item) for owner, item, time in ROWS if owner == user)]


def written(line: Callable[[int, int, int], str], header: str = "", encoding: str = "utf-8") -> bytes:
    """Return a line for each interaction."""
    return (header + "".join(line(*row) + "\n" for row in ROWS)).encode(encoding)


def moment(time: int, style: str = "%Y-%m-%dT%H:%M:%SZ", hours: int = 0) -> str:
    return (datetime.fromtimestamp(time, UTC) + timedelta(hours=hours)).strftime(style)


def zoned(user: int, item: int, time: int) -> str:
    hours = 2 * (item % 2)
    return f"{user},{item},{moment(time, '%Y-%m-%dT%H:%M:%S', hours)}{'+02:00' if hours else 'Z'}"


def yelp(user: int, item: int, time: int) -> str:
    date = moment(time, "%Y-%m-%d %H:%M:%S")
    return json.dumps({"business_id": f"B{item}", "text": "one\nand\ttwo", "user_id": f"U{user}", "date": date})


def event(user: int, item: int, time: int) -> str:
    return f"{1000 * time},{user},{('view', 'view', 'addtocart')[(user + item) % 3]},{item},"


def mind(user: int) -> str:
    *old, new = history(user)
    shown = f"N998-0 N{new}-1 N999-0"
    return f"{user}\tU{user}\t11/{1 + user % 28}/2019 9:05:58 AM\t{' '.join(f'N{item}' for item in old)}\t{shown}\n"


def frame() -> pd.DataFrame:
    table = pd.DataFrame(ROWS, columns=["uid", "iid", "ts"])
    table["uid"] = ("u" + table["uid"].astype(str)).astype("category")
    table["iid"] = table["iid"].astype("category")
    table["ts"] = pd.to_datetime(table["ts"], unit="s", utc=True).dt.tz_convert("Asia/Tokyo")
    return table


def write_typed(path: Path) -> None:
    frame().to_parquet(path)


def write_parts(path: Path) -> None:
    path.mkdir()
    table = frame()
    table[:200].to_parquet(path / "part-0.parquet")
    table[200:].to_parquet(path / "part-1.parquet")
    (path / "_SUCCESS").touch()


def write_csv_parts(path: Path) -> None:
    path.mkdir()
    for number, rows in enumerate((ROWS[:100], ROWS[100:300], ROWS[300:])):
        text = "uid,iid,ts\n" + "".join(f"{user},{'é' if item == 3 else item},{time}\n" for user, item, time in rows)
        (path / f"{number}.csv.gz").write_bytes(gzip.compress(text.encode()))


NAMED = {"user_column": "uid", "item_column": "iid", "time_column": "ts"}

# file -> (its content, or what writes it; the options that read it)
FILES: dict[str, tuple[bytes | Callable[[Path], None], dict]] = {
    "quoted.csv": (
        written(lambda u, i, t: f'"u{u}, x","item ""{i}""",{t}\r', "\ufeffuid,iid,ts\r\n"),
        NAMED,
    ),
    "latin1.csv": (  # Book-Crossing
        written(lambda u, i, t: f'"{u}";"é{i}";"{t}"', "User-ID;ISBN;When\n", "latin-1"),
        {"user_column": "User-ID", "item_column": "ISBN", "time_column": "When", "encoding": "latin-1"},
    ),
    "utf16.csv": (written(lambda u, i, t: f"{u},{i},{t}", "uid,iid,ts\n", "utf-16"), NAMED | {"encoding": "utf-16"}),
    "UserBehavior.csv": (  # Taobao
        written(lambda u, i, t: f"{u},{i},{i % 5},pv,{t}"),
        {"user_column": 0, "item_column": 1, "time_column": 4},
    ),
    "clicks.dat": (  # Yoochoose
        written(lambda u, i, t: f"{u},{moment(t, '%Y-%m-%dT%H:%M:%S.868Z')},{i},0"),
        {"user_column": 0, "item_column": 2, "time_column": 1},
    ),
    "checkins.txt": (  # Gowalla
        written(lambda u, i, t: f"{u}\t{moment(t)}\t30.2\t-97.7\t{i}"),
        {"user_column": 0, "item_column": 4, "time_column": 1},
    ),
    "listening.tsv": (  # LastFM: titles with quotes that never end
        written(lambda u, i, t: f'user_{u:06}\t{moment(t)}\tx\t"Heroes\ty\tsong {i}'),
        {"user_column": 0, "item_column": 5, "time_column": 1, "quotes": False},
    ),
    "events.csv": (  # RetailRocket
        written(event, "timestamp,visitorid,event,itemid,transactionid\n"),
        {"user_column": "visitorid", "item_column": "itemid", "time_column": "timestamp"}
        | {"keep": {"event": ["view", "addtocart"]}},
    ),
    "reviews.json": (
        written(yelp),
        {"reader": "json", "user_column": "user_id", "item_column": "business_id", "time_column": "date"},
    ),
    "steam.json": (
        written(
            lambda u, i, t: (
                f"{{u'username': u'U{u}', u'product_id': u'{i}', u'text': u'it\\'s', u'date': u'{moment(t)}'}}"
            )
        ),
        {"reader": "json", "user_column": "username", "item_column": "product_id", "time_column": "date"},
    ),
    "behaviors.tsv": ("".join(map(mind, range(60))).encode(), {"reader": "mind"}),
    "ratings2023.csv.gz": (
        gzip.compress(written(lambda u, i, t: f"A{u},B00{i},5.0,{1000 * t}", "user_id,parent_asin,rating,timestamp\n")),
        {"user_column": "user_id", "item_column": "parent_asin", "time_column": "timestamp", "rating_column": "rating"},
    ),
    "zones.csv": (written(zoned, "uid,iid,ts\n"), NAMED),
    "typed.parquet": (write_typed, NAMED),
    "parts": (write_parts, NAMED),
    "csv parts": (write_csv_parts, NAMED),
}


def write(name: str, folder: Path) -> tuple[Path, dict]:
    """Write a file of `FILES`; returns its path and the options that read it."""
    content, options = FILES[name]
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path, {"reader": "table"} | options
