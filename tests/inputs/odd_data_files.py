"""Files of data that look odd and are fine, with the histories that they hold."""

import gzip

from bad_data_files import EVENTS, INTER, REVIEW, TABLE, TIMED, zipped

# name: (content, options of the data set, raw user id -> raw item ids, oldest first)
FILES = {
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
    "padded, zeros, blanks and unended lines": (
        b"\n-1,0, 5\r\n\r\n7,6,5",
        {"reader": "padded"},
        {1: [5], 2: [7, 6, 5]},
    ),
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
    "unicode ids and names": ("uid,iid\nÅsa,茶\nÅsa,☕\n".encode(), TABLE, {"Åsa": ["茶", "☕"]}),
    "ids that differ in case and accents alone": (
        "uid,iid\na,é\na,e\nA,É\n".encode(),
        TABLE,
        {"A": ["É"], "a": ["é", "e"]},
    ),
    "equal times keep the order of the file": (b"uid,iid,when\na,z,5\na,b,5\na,c,1\n", TIMED, {"a": ["c", "z", "b"]}),
    "times below zero, fractions and exponents": (
        b"uid,iid,when\na,z,1e3\na,b,-7\na,c,.5\n",
        TIMED,
        {"a": ["b", "c", "z"]},
    ),
    "the same line again and again": (b"uid,iid,when\n" + b"a,b,1\n" * 4, TIMED, {"a": ["b"] * 4}),
    "one user, one item": (b"a b\n", {"reader": "pairs"}, {"a": ["b"]}),
    "a line of 100,000 items": (b"1 " + b"7 " * 100_000 + b"\n", {}, {1: [7] * 100_000}),
    "columns by name and by number": (EVENTS, TABLE | {"keep": {"event": "view", 1: "x"}}, {"a": ["x"]}),
}
