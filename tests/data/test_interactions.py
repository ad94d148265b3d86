"""The file that other systems read: raw ids, in seqrec's order."""

import numpy as np
from raw_setting import load

from seqrec.commands import prepare

MUSIC = (
    'b,x,20\na,"y, or so",10\na,x,10\nb,z,20\na,z,5\na,x,30\n'  # items at one time, an item twice, a separator in an id
)
COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}


def test_a_file_has_raw_ids_and_the_place_of_an_item_for_its_time(tmp_path):
    ours = load(tmp_path, f"user,item,time\n{MUSIC}".encode(), reader="table", **COLUMNS)
    given = [
        f"dataset.{key}={value}" for key, value in {"path": tmp_path / "raw", "reader": "table", **COLUMNS}.items()
    ]
    file = tmp_path / "music.inter"
    prepare.main(["file", *given, f"cache_dir={tmp_path / 'cache'}", "--interactions", str(file)])
    header, *lines = file.read_text().splitlines()
    assert header == "user_id:token\titem_id:token\ttimestamp:float"
    assert lines == [
        *("a\tz\t0", "a\ty, or so\t1", "a\tx\t2", "a\tx\t3"),
        *("b\tx\t0", "b\tz\t1"),
    ]
    theirs = dict(zip(COLUMNS, header.split("\t"), strict=True))
    again = load(tmp_path, file.read_bytes(), reader="table", separator="\t", **theirs)
    for name in ("items", "offsets", "user_ids", "item_ids"):
        assert np.array_equal(getattr(again, name), getattr(ours, name)), name
