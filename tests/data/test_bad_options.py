"""Options of a data set that make no sense, and the exact words they meet."""

import pytest

from seqrec.data.source import FileDataset
from seqrec.utils.errors import UserError

BAD = {
    "unknown reader": (
        b"1 2\n",
        {"reader": "sequences"},
        "dataset.reader=sequences: no such reader; did you mean 'sequence'?\n"
        "  there are: sequence, pairs, movielens, amazon_csv, amazon_json, recbole, mind, table, json",
    ),
    "columns for a reader that knows them": (
        b"1 2\n",
        {"user_column": "uid"},
        "dataset.reader=sequence knows its columns: leave out dataset.*_column, attribute_columns, separator, header, quotes, keep",
    ),
    "a column that is neither name nor number": (
        b"1 2\n",
        {"reader": "table", "user_column": -1, "item_column": 1},
        "dataset.user_column=-1: must be the name of a column or its number, from 0",
    ),
    "header of text": (
        b"1 2\n",
        {"reader": "table", "header": "yes"},
        "dataset.header=yes: must be true, false or auto",
    ),
    "no such encoding": (
        b"1 2\n",
        {"encoding": "utf-9"},
        "dataset.encoding=utf-9: no such encoding of text; try utf-8, latin-1 or utf-16",
    ),
    "an encoding of bytes": (
        b"1 2\n",
        {"encoding": "hex"},
        "dataset.encoding=hex: no such encoding of text; try utf-8, latin-1 or utf-16",
    ),
    "keep that is no mapping": (
        b"1 2\n",
        {"reader": "table", "keep": "view"},
        "dataset.keep=view: must be null or like {event:[view,addtocart]}",
    ),
    "k_core of text": (
        b"1 2\n",
        {"k_core": "five"},
        "dataset.k_core=five: must be null or a whole number above 0",
    ),
    "k_core below 1": (b"1 2\n", {"k_core": 0}, "dataset.k_core=0: must be null or a whole number above 0"),
    "min_rating of text": (b"1 2\n", {"min_rating": "4"}, "dataset.min_rating=4: must be null or a number"),
    "k_core removes everything": (
        b"1 2 3\n2 3\n",
        {"k_core": 2},
        "dataset.k_core=2: nothing is left of {file}; take a lower k_core",
    ),
    "min_rating without ratings": (
        b"1 2 3\n",
        {"min_rating": 4},
        "dataset.min_rating=4: {file} has no ratings; set dataset.min_rating=null",
    ),
    "min_rating removes everything": (
        b"a,b,3,1\na,b,3.5,1\n",
        {"reader": "amazon_csv", "min_rating": 4},
        "dataset.min_rating=4: nothing is left of {file}; its highest rating is 3.5",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_message(case, tmp_path):
    content, options, expected = BAD[case]
    path = tmp_path / "raw"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        FileDataset(**{"name": "own", "reader": "sequence", "path": str(path)} | options).load(
            tmp_path, tmp_path / "cache"
        )
    assert str(caught.value) == expected.replace("{file}", str(path))


def test_path_is_named(tmp_path):
    with pytest.raises(UserError) as caught:
        FileDataset(name="own", reader="table", path="clocks.csv").load(tmp_path, tmp_path / "cache")
    assert str(caught.value) == "dataset.path=clocks.csv: there is no such file"
    with pytest.raises(UserError) as caught:
        FileDataset(name="own", reader="table").load(tmp_path, tmp_path / "cache")
    assert str(caught.value) == "dataset.path is not set: give the path of your file, as in dataset.path=clicks.csv"
