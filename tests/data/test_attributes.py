"""Attributes of items: from a file of their own, and from columns of a table."""

import json
import random
import tracemalloc

import numpy as np
import pytest

from seqrec.data.attributes import attribute_table
from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

TABLE = "uid,iid,brand,kind\na,x,Sony,tv\na,y,Acme,tv\nb,x,Sony,radio\nb,z,Acme,tv\n"


def load(tmp_path, text=TABLE, name="clicks.csv", **options):
    (tmp_path / name).write_text(text)
    columns = {"reader": "table", "user_column": "uid", "item_column": "iid"}
    return FileDataset(**{"name": "file", "path": str(tmp_path / name)} | columns | options).load(
        tmp_path, tmp_path / "cache"
    )


@pytest.mark.parametrize("ids", [np.array([0, 3, 5, 11]), np.array(["", "b", "c", "é"])])
def test_table_is_what_the_pairs_say(ids):
    rng = random.Random(1)
    pairs = [(rng.choice([*ids[1:].tolist(), 99]), rng.choice("qrst")) for _ in range(9)]
    pairs = [pair for pair in pairs if pair[0] != ids[2]]  # an item without values
    items, values = (np.array(column) for column in zip(*pairs, strict=True))
    known = sorted({value for item, value in pairs if item in ids.tolist()})
    table = attribute_table(items, values, ids)
    assert table.dtype == np.int32
    assert table.shape[1] == max(len({value for item, value in pairs if item == i}) for i in ids.tolist())
    for row, item in zip(table.tolist()[1:], ids.tolist()[1:], strict=True):
        wanted = sorted({known.index(value) + 1 for other, value in pairs if other == item})
        assert row == wanted + [0] * (len(row) - len(wanted))
    assert not table[0].any()
    assert not table[2].any()


def test_columns_of_a_table(tmp_path):
    for _ in range(2):  # read, then from the prepared copy
        data = load(tmp_path, attribute_columns=["brand", 3])
        assert data.item_ids.tolist() == ["", "x", "y", "z"]
        assert {kind: table.tolist() for kind, table in data.attributes.items()} == {
            "brand": [[0], [2], [1], [1]],
            "3": [[0, 0], [1, 2], [2, 0], [2, 0]],
        }
    assert load(tmp_path).attributes == {}


@pytest.mark.parametrize("values", [{"x": ["p", "q"], "z": "p", "unknown": ["r"]}, {"x": [7, 9], "z": [7]}])
def test_a_file_of_the_items(tmp_path, values):
    (tmp_path / "items.json").write_text(json.dumps(values))
    data = load(tmp_path, attributes="items.json")
    assert data.attributes["attributes"].tolist() == [[0, 0], [1, 2], [0, 0], [1, 0]]
    assert data.sha256 != load(tmp_path).sha256
    (tmp_path / "items.json").write_text(json.dumps({"y": ["p"]}))
    other = load(tmp_path, attributes="items.json")
    assert other.sha256 != data.sha256  # a run does not go on with other attributes
    assert other.stamp != data.stamp
    assert other.attributes["attributes"].tolist() == [[0], [0], [1], [0]]


@pytest.mark.parametrize("value", ["null", '["p", null]', '{"p": 1}', '[["p"]]', "1" * 5000])
def test_values_that_are_no_text_or_number(tmp_path, value):
    (tmp_path / "items.json").write_text(f'{{"x": "p", "y": {value}}}')
    with pytest.raises(UserError, match=r"items\.json: must be a JSON object like "):
        load(tmp_path, attributes="items.json")


def test_rows_that_repeat_a_value_need_no_memory(tmp_path):
    text = "uid,iid,kind\n" + "".join(f"a,{number % 7},{'k' * 1000}\n" for number in range(5000))
    load(tmp_path, text)  # what is imported does not count
    tracemalloc.start()
    load(tmp_path, text, attribute_columns=["kind"])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50e6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": "none.json"}, r"dataset\.attributes=none\.json: there is no such file in "),
        ({"attributes": "bad.json"}, r"bad\.json: must be a JSON object like "),
        ({"attributes": "latin.json"}, r"latin\.json, line 1: byte 0xe9"),
        ({"attributes": "other.json"}, r"dataset\.attributes=other\.json: it describes no item of "),
        ({"attributes": "empty.json"}, r"empty\.json has no attributes"),
        ({"attribute_columns": ["brnd"]}, r"dataset\.attribute_columns=brnd: no such column; did you mean 'brand'"),
        ({"attribute_columns": ["kind"], "reader": "sequence"}, "dataset.reader=sequence knows its columns"),
    ],
)
def test_what_cannot_be(tmp_path, options, message):
    (tmp_path / "bad.json").write_text("[1, 2]")
    (tmp_path / "latin.json").write_bytes(b'{"x": "\xe9"}')
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "other.json").write_text('{"q": ["p"]}')
    with pytest.raises(UserError, match=message):
        load(tmp_path, **options)
