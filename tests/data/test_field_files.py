"""Every layout that people of this field have gives the same sequences and the same figures."""

import functools
import random

import numpy as np
import pandas as pd
import pytest
from field_files import FILES, ROWS, history, write
from job_setting import configure

from seqrec.build import build
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError


def load(path, folder, **options):
    return FileDataset(name="own", path=str(path), **options).load(folder, folder / "cache")


def numbers(ids):
    """Return the number that each id of the files holds."""
    return ["".join(filter(str.isdigit, str(word))).lstrip("0") or "0" for word in ids]


@pytest.mark.parametrize("name", FILES)
def test_sequences(name, tmp_path):
    path, options = write(name, tmp_path)
    dataset = load(path, tmp_path, **options)
    items = np.array([3 if word == "é" else int(numbers([word])[0]) for word in dataset.item_ids[1:].tolist()])
    sequences = np.split(items[dataset.items - 1], dataset.offsets[1:-1])
    found = {int(user): row.tolist() for user, row in zip(numbers(dataset.user_ids), sequences, strict=True)}
    assert found == {user: history(user) for user in range(60)}
    assert (dataset.times is None) == (name == "behaviors.tsv")


@pytest.mark.parametrize("name", FILES)
def test_figures(name, tmp_path):
    path, options = write(name, tmp_path)
    given = [f"+dataset.{key}={value}".replace("+", "") for key, value in options.items() if key != "keep"]
    given += ["dataset.keep={event:[view,addtocart]}"] if "keep" in options else []
    common = ["method=markov", "eval.cutoffs=[5,10]", "dataset=file", f"dataset.path='{path}'"]
    experiment = build(configure(*common, *given, f"cache_dir={tmp_path}/cache"))
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, experiment.fabric.device)
    metrics = experiment.evaluator.metrics(ranks)
    found = [round(metrics[metric], 4) for metric in ("HR@5", "NDCG@10", "MRR")]
    assert found == [0.2017, 0.1688, 0.1492]


def test_kept_events(tmp_path):
    path, options = write("events.csv", tmp_path)
    views = load(path, tmp_path, **options | {"keep": {"event": "view"}})
    assert len(views.items) == sum((user + item) % 3 < 2 for user, item, _ in ROWS)
    carts = load(path, tmp_path, **options | {"keep": {2: ["addtocart"]}})
    assert len(views.items) + len(carts.items) == len(load(path, tmp_path, **options).items) == len(ROWS)


KEPT_ROWS = pd.DataFrame({"uid": [1, 2, 3], "iid": [1, 2, 3], "kind": [1, 2, 1], "score": [5.0, 4.5, 5.0]})


@pytest.mark.parametrize("write_as", ["parquet", "csv", "json"])
@pytest.mark.parametrize(
    ("keep", "users"),
    [({"kind": 1}, [1, 3]), ({"kind": ["1", 2], "score": [4.5]}, [2]), ({"score": ["5.0"]}, [1, 3])],
)
def test_kept_numbers(write_as, keep, users, tmp_path):
    path = tmp_path / "file"
    if write_as == "json":
        KEPT_ROWS.to_json(path, orient="records", lines=True)
    elif write_as == "csv":
        KEPT_ROWS.to_csv(path, index=False)
    else:
        KEPT_ROWS.to_parquet(path)
    options = {"reader": "json" if write_as == "json" else "table", "user_column": "uid", "item_column": "iid"}
    assert load(path, tmp_path, **options, keep=keep).user_ids.tolist() == users


NUMBERS, TRUTHS = "1,1,01\n2,1,1\n3,1,1.0\n", "4,1,true\n5,1,TRUE\n6,1,False\n"


@pytest.mark.parametrize("more", ["", "9,9,other\n"])
@pytest.mark.parametrize(
    ("rows", "keep", "users"),
    [
        (NUMBERS, "01", [1]),
        (NUMBERS, 1, [2]),
        (NUMBERS, "1.0", [3]),
        (TRUTHS, "true", [4]),
        (TRUTHS, True, [4, 5]),
        (TRUTHS, [False], [6]),
    ],
)
def test_kept_values_are_compared_as_they_are_written(rows, keep, users, more, tmp_path):
    (tmp_path / "file").write_text("uid,iid,kind\n" + rows + more)
    options = {"reader": "table", "user_column": "uid", "item_column": "iid", "keep": {"kind": keep}}
    assert load(tmp_path / "file", tmp_path, **options).user_ids.tolist() == users


def test_text_that_parquet_holds_as_bytes(tmp_path):
    ids = ["Beyoncé".encode(), b"x", b"y"]
    path, options = tmp_path / "file", {"reader": "table", "user_column": "uid", "item_column": "iid"}
    pd.DataFrame({"uid": ids, "iid": ids, "kind": [b"view", b"view", b"cart"]}).to_parquet(path)
    assert load(path, tmp_path, **options, keep={"kind": "view"}).user_ids.tolist() == ["Beyoncé", "x"]
    pd.DataFrame({"uid": [b"\xff"], "iid": ids[:1]}).to_parquet(path)
    with pytest.raises(UserError, match=r"file is damaged, .*UTF8"):
        load(path, tmp_path, **options)


def test_a_zero_byte_that_arrays_of_text_would_drop_is_refused(tmp_path):
    path, options = tmp_path / "file", {"reader": "table", "user_column": "uid", "item_column": "iid"}
    pd.DataFrame({"uid": ["a", "b", "a\0"], "iid": ["x", "y", "z"]}).to_parquet(path)
    with pytest.raises(UserError, match=r"row 3.*'uid'"):
        load(path, tmp_path, **options)


def test_rows_that_are_left_out_may_hold_anything(tmp_path):
    (tmp_path / "file").write_text("uid,iid,event\na,x,view\nb,,login\nc,z,view\n")
    options = {"reader": "table", "user_column": "uid", "item_column": "iid"}
    assert load(tmp_path / "file", tmp_path, **options, keep={"event": ["view"]}).user_ids.tolist() == ["a", "c"]


HEADERS = {
    "numbers": ("1,2,3\n4,5,6\n", {"time_column": 2}, 2),
    "names over numbers": ("user,item,when\n4,5,6\n", {"time_column": 2}, 1),
    "a name over times": ("a,b,when\nc,d,2014-07-18\n", {"time_column": 2}, 1),
    "times over times": ("a,b,2014-07-18\nc,d,2014-07-19\n", {"time_column": 2}, 2),
    "text over text": ("a,b\nc,d\n", {}, 2),
    "text over text, told": ("a,b\nc,d\n", {"header": True}, 1),
    "names over numbers, told otherwise": ("user,item\n4,5\n", {"header": False}, 2),
    "one line": ("a,b\n", {}, 1),
    "two names alike": ("x,x,x\n1,2,3\n", {}, 1),
    "commas in a last column of text": ("1\t2\tone, two, three\n3\t4\tfour, five, six\n", {}, 2),
    "a date of two words": ("1 2 2014-07-18\n3 4 2014-07-19\n".replace(" ", "\t"), {"time_column": 2}, 2),
    "a date with a blank": (
        "1,2014-07-18 10:00:00,7\n3,2014-07-19 10:00:00,8\n",
        {"time_column": 1, "item_column": 2},
        2,
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_header_of_a_file_read_by_numbers(case, tmp_path, caplog):
    content, options, interactions = HEADERS[case]
    (tmp_path / "file").write_text(content)
    caplog.set_level("INFO", logger="seqrec")
    given = {"reader": "table", "user_column": 0, "item_column": 1} | options
    assert len(load(tmp_path / "file", tmp_path, **given).items) == interactions
    lines = content.count("\n")
    assert ("no header line" if interactions == lines else "a header line") in caplog.text


def test_what_was_found_is_logged(tmp_path, caplog):
    path, options = write("latin1.csv", tmp_path)
    caplog.set_level("INFO", logger="seqrec")
    load(path, tmp_path, **options)
    assert all(word in caplog.text for word in ("latin-1", "';'", "User-ID", "a header line"))


def test_a_name_made_of_digits_is_a_name_when_it_is_text(tmp_path):
    (tmp_path / "file").write_text("1,0\na,x\n")
    dataset = load(tmp_path / "file", tmp_path, reader="table", user_column="0", item_column="1")
    assert dataset.user_ids.tolist() == ["x"]


def test_parts_of_a_folder_with_ids_of_two_kinds(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.csv").write_text("uid,iid\n2,7\n1,7\n")
    (folder / "b.csv").write_text("uid,iid\n")
    (folder / "c.csv").write_text("uid;iid\n2;07\n1;x\n2;7\n")
    dataset = load(folder, tmp_path, reader="table", user_column="uid", item_column="iid")
    assert dataset.user_ids.tolist() == [1, 2]
    assert dataset.item_ids[dataset.items].tolist() == ["7", "x", "7", "07", "7"]


def test_mind_takes_the_history_once_and_clicks_by_time(tmp_path):
    lines = [
        "1\tU1\t11/14/2019 1:00:00 PM\tN1 N2\tN5-1 N6-0 N7-1",
        "2\tU2\t11/14/2019 8:00:00 AM\t\tN5-0 N1-1",
        "3\tU1\t11/14/2019 9:00:00 AM\tN1 N2\tN9-1",
        "4\tU3\t11/14/2019 9:00:00 AM\t\tN9-0",
    ]
    (tmp_path / "behaviors.tsv").write_text("\n".join(lines))
    dataset = load(tmp_path / "behaviors.tsv", tmp_path, reader="mind")
    assert dataset.user_ids.tolist() == ["U1", "U2"]
    assert dataset.item_ids[dataset.items].tolist() == ["N1", "N2", "N9", "N5", "N7", "N1"]
    with pytest.raises(UserError, match="folder"):
        load(write("parts", tmp_path)[0], tmp_path, reader="mind")


def message_of(action):
    """Return the message of the UserError that an action ends in, or "" where it goes well."""
    try:
        action()
    except UserError as error:
        return str(error)
    return ""


def test_random_lines_never_end_in_a_traceback(tmp_path):
    draw, messages = random.Random(0), []
    for number in range(100):
        text = "".join(draw.choice("a1,;\t \"\n{}:'-\r") for _ in range(draw.randint(1, 60)))
        path = tmp_path / str(number)
        path.write_bytes(text.encode())
        for options in ({"reader": "table"}, {"reader": "json"}, {"reader": "mind"}):
            columns = {} if options["reader"] == "mind" else {"user_column": 0, "item_column": 1}
            columns = {"user_column": "a", "item_column": "1"} if options["reader"] == "json" else columns
            messages.append(message_of(functools.partial(load, path, tmp_path, **options, **columns)))
    assert all(message.count("\n") <= 1 for message in messages)
    assert "" in messages
