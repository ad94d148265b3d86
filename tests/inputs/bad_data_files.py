"""Files of data that cannot be read, with what the message names besides the file."""

import gzip
import io
import zipfile

TABLE = {"reader": "table", "user_column": "uid", "item_column": "iid"}
TIMED = TABLE | {"time_column": "when"}
INTER = b"user_id:token\titem_id:token\ttimestamp:float\n"
REVIEW = b'{"reviewerID": "A", "asin": "x", "overall": 5.0, "unixReviewTime": 10}\n'
EVENTS = b"uid,iid,event\na,x,view\nb,y,addtocart\n"
MIND = b"1\tU2\t11/13/2019 8:00:00 AM\tN3\tN1-1\n\n2\tU1\t11/14/2019 9:00:00 AM\tN5\tN5-0 N9-1\n"


def zipped(*names: str) -> bytes:
    """Return a zip archive of small files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "1 2\n")
    return stream.getvalue()


# name: (content, options of the data set, what is named ...)
FILES = {
    "empty file": (b"", {}),
    "only line ends": (b"\n\n", {}),
    "only line ends, UTF-16": ("\n\n".encode("utf-16"), {"encoding": "utf-16"}),
    "only line ends, UTF-16 table": ("\n\n".encode("utf-16"), TABLE | {"encoding": "utf-16"}),
    "only quotes": (b'""\n', TABLE),
    "only quotes, told the separator": (b'""\n', TABLE | {"separator": ","}),
    "UTF-16 cut short": ("1 2 3\n".encode("utf-16")[:-1], {"encoding": "utf-16"}, "line 1", "utf-16"),
    "empty JSON": (b"\n", {"reader": "amazon_json"}),
    "header only": (b"uid,iid,when\n", TIMED),
    "header only, recbole": (INTER, {"reader": "recbole"}),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0", {}, "dataset.encoding"),
    "UTF-16": ("uid,iid\na,b\n".encode("utf-16"), TABLE, "dataset.encoding"),
    "latin-1": (b"uid,iid\na,b\nJos\xe9,c\n", TABLE, "line 3", "dataset.encoding", "0xe9"),
    "latin-1, sequence": (b"1 2\n\xff 3\n", {}, "line 2", "dataset.encoding", "0xff"),
    "truncated gzip": (gzip.compress(b"1 2 3\n" * 1000, mtime=0)[:-12], {}),
    "broken gzip": (gzip.compress(b"1 2 3\n", mtime=0)[:-8] + b"\1\2\3\4\6\0\0\0", {}),
    "zip of two": (zipped("a", "b"), {}, "dataset.member", "a, b"),
    "zip without the member": (
        zipped("ml/u.data", "b"),
        {"member": "ml/u.date"},
        "dataset.member=ml/u.date",
        "'ml/u.data'",
    ),
    "zip of one, not the member": (zipped("a"), {"member": "b"}, "dataset.member=b"),
    "zip with a password": (
        zipped("a")
        .replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1")
        .replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
        {},
    ),
    "non-integer id": (b"1 2 3\n2 4 x5\n", {}, "line 2", "'x5'"),
    "fraction": (b"1 2 3\n\n2 4.0\n", {}, "line 3", "'4.0'"),
    "commas": (b"1,2,3\n", {}, "line 1", "'1,2,3'"),
    "negative id": (b"1 2\n2 -3\n", {}, "line 2", "'-3'"),
    "digits of another script": ("1 2\n2 ٣\n".encode(), {}, "line 2", "'٣'"),
    "no-break space": ("1 2\n2\u00a03\n".encode(), {}, "line 2", "'2\u00a03'"),
    "19 digits": (b"1 1234567890123456789\n", {}, "line 1", "id 1234567890123456789"),
    "user without items": (b"1 2\n7\n3 4\n", {}, "line 2", "user 7"),
    "last user without items": (b"1 2\n7", {}, "line 2", "user 7"),
    "padding after an item": (b"-1,5,6\n\n5,0,6\n", {"reader": "padded"}, "line 3", "belongs to the left"),
    "padding alone": (b"-1,5\n-1,-1\n", {"reader": "padded"}, "line 2", "belongs to the left"),
    "padded, a fraction": (b"-1,5\n-1,6.0\n", {"reader": "padded"}, "line 2", "'6.0'"),
    "padded, below -1": (b"-1,5\n-2,6\n", {"reader": "padded"}, "line 2", "'-2'"),
    "padded, a blank": (b"-1,5\n  \n4,6\n", {"reader": "padded"}, "line 2", "1 columns"),
    "padded, a shorter line": (b"-1,5\n6\n", {"reader": "padded"}, "line 2", "1 columns"),
    "padded, 20 digits": (b"-1,12345678901234567890\n", {"reader": "padded"}, "line 1", "'12345678901234567890'"),
    "three columns in pairs": (b"1 2\n\n1 2 3\n", {"reader": "pairs"}, "line 3", "3 columns"),
    "all lines of another width": (b"1 2 3\n", {"reader": "pairs"}, "line 1", "3 columns"),
    "column missing": (b"1\t2\t3\t4\n1\t2\t3\n", {"reader": "movielens"}, "line 2", "3 columns"),
    "column too many, ::": (b"1::2::3::4\n1::2::3::4::5\n", {"reader": "movielens"}, "line 2", "5 columns"),
    "column too many": (b"a,b,5,1\na,b,c,5,1\n", {"reader": "amazon_csv"}, "line 2", "5 columns"),
    "too many columns everywhere": (b"a,b,5,1,x\n", {"reader": "amazon_csv"}, "line 1", "5 columns"),
    "table: a title with a comma": (b'uid,title,iid\na,"x, y",b\na,x, y,b\n', TABLE, "line 3", "4 columns"),
    "table: a quote that never ends": (b'uid,iid\na,b\nc,"d\ne,f\n', TABLE, "dataset.quotes=false"),
    "header with a type in a row": (
        b"user,item,rating,timestamp\na,b,5,1\n",
        {"reader": "amazon_csv"},
        "line 1",
        "'rating'",
    ),
    "timestamp not a number": (b"a,b,5,1\na,b,5,yesterday\n", {"reader": "amazon_csv"}, "line 2", "'yesterday'"),
    "timestamp NaN": (INTER + b"1\t2\t3\n1\t2\tnan\n", {"reader": "recbole"}, "line 3", "'nan'"),
    "timestamp infinite": (INTER + b"1\t2\tinf\n", {"reader": "recbole"}, "line 2", "'inf'"),
    "timestamp empty": (INTER + b"1\t2\t3\n\n1\t2\t\n", {"reader": "recbole"}, "line 4", "'timestamp'"),
    "rating not a number": (b"a,b,five,1\n", {"reader": "amazon_csv"}, "line 1", "'five'"),
    "user empty": (b"a,b,5,1\n,b,5,1\n", {"reader": "amazon_csv"}, "line 2", "'user'"),
    "item blank": (b"a, ,5,1\n", {"reader": "amazon_csv"}, "line 1", "'item'"),
    "table: date after numbers": (b"uid,iid,when\na,b,5\na,b,2014-07-18\n", TIMED, "line 3", "'2014-07-18'"),
    "table: number after dates": (b"uid,iid,when\na,b,2014-07-18\na,b,later\n", TIMED, "line 3", "'later'"),
    "table: no time of the format": (
        b"uid,iid,when\na,b,07/18/2014\na,b,2014-07-18\n",
        TIMED | {"time_format": "%m/%d/%Y"},
        "line 3",
        "'2014-07-18'",
    ),
    "table: no user_column": (b"uid,iid\na,b\n", {"reader": "table"}, "dataset.user_column"),
    "table: missing column": (
        b"uid;iid;time\na;b;1\n",
        TABLE | {"time_column": "tiem"},
        "dataset.time_column=tiem",
        "'time'",
    ),
    "table: wrong separator": (b"uid,iid\na,b\n", TABLE | {"separator": ";"}, "dataset.user_column=uid", "'uid,iid'"),
    "table: nothing but quotes": (b'uid,iid\na,b\n""', TABLE),
    "table: a quoted tab": (b'uid,iid\na,b\n"\t",c\n', TABLE, "line 3", "'uid'"),
    "table: column twice": (b"uid,iid,iid\na,b,c\n", TABLE, "'iid'"),
    "table: cut Parquet": (b"PAR1 and so on", TABLE),
    "recbole: no types": (b"user_id\titem_id\n1\t2\n", {"reader": "recbole"}, "line 1", "'user_id'"),
    "recbole: no item": (b"user_id:token\titem:token\n1\t2\n", {"reader": "recbole"}, "'item_id'"),
    "not JSON": (REVIEW + b"{'reviewerID': A}\n", {"reader": "amazon_json"}, "line 2", "'reviewerID'"),
    "JSON without asin": (
        REVIEW + b"\n" + REVIEW.replace(b"asin", b"isbn"),
        {"reader": "amazon_json"},
        "line 3",
        "'asin'",
    ),
    "JSON list": (b"[1]\n", {"reader": "amazon_json"}, "line 1", "[1]"),
    "JSON: time as text": (REVIEW.replace(b"10}", b'"x"}'), {"reader": "amazon_json"}, "line 1", "'x'"),
    "JSON: time beyond all numbers": (
        REVIEW.replace(b"10}", b"1" + b"0" * 400 + b"}"),
        {"reader": "amazon_json"},
        "line 1",
    ),
    "JSON: rating NaN": (REVIEW.replace(b"5.0", b"NaN"), {"reader": "amazon_json"}, "line 1", "nan"),
    "JSON: id as list": (REVIEW.replace(b'"x"', b"[7]"), {"reader": "amazon_json"}, "line 1", "[7]"),
    "JSON: half a character": (
        REVIEW.replace(b'"x"', b'"x\\ud83d"'),
        {"reader": "amazon_json"},
        "line 1",
        r"'x\ud83d'",
    ),
    "JSON: a zero byte": (REVIEW.replace(b'"x"', b'"x\\u0000"'), {"reader": "amazon_json"}, "line 1", r"'x\x00'"),
    "JSON: blank id": (REVIEW.replace(b'"x"', b'" "'), {"reader": "amazon_json"}, "line 1", "' '"),
    "JSON: number after dates": (
        REVIEW.replace(b"10}", b'"2014-07-18"}') + REVIEW,
        {"reader": "amazon_json"},
        "line 2",
        "10",
    ),
    "JSON: no time of the format": (
        b'{"u": 1, "i": 2, "t": "2014-07-18"}\n',
        {"reader": "json", "user_column": "u", "item_column": "i", "time_column": "t", "time_format": "%d.%m.%Y"},
        "line 1",
        "'2014-07-18'",
    ),
    "JSON: deeper than any parser goes": (b"[" * 100_000 + b"\n", {"reader": "amazon_json"}, "line 1"),
    "Python that is no literal": (
        b"{'reviewerID': __import__('os').getcwd()}\n",
        {"reader": "amazon_json"},
        "line 1",
        "'reviewerID'",
    ),
    "utf-16 that ends within a letter": (
        "uid,iid\na,b\n".encode("utf-16")[:-1],
        TABLE | {"encoding": "utf-16"},
        "dataset.encoding",
    ),
    "numbers beyond the columns": (
        b"a,b\nc,d\n",
        {"reader": "table", "user_column": 0, "item_column": 2},
        "dataset.item_column=2",
    ),
    "a name without a header": (b"a,b\nc,d\n", TABLE | {"header": False}, "dataset.user_column=uid"),
    "JSON latin-1": (b'{"reviewerID": "\xe9"}\n', {"reader": "amazon_json"}, "line 1", "dataset.encoding", "0xe9"),
    "k_core removes everything": (b"1 2 3\n2 3\n", {"k_core": 2}, "dataset.k_core=2"),
    "min_rating without ratings": (b"1 2 3\n", {"min_rating": 4}, "dataset.min_rating=4"),
    "min_rating removes everything": (
        b"a,b,3,1\na,b,3.5,1\n",
        {"reader": "amazon_csv", "min_rating": 4},
        "dataset.min_rating=4",
    ),
    "kept value that is not there": (EVENTS, TABLE | {"keep": {"event": ["views"]}}, "dataset.keep", "views"),
    "kept column that is not there": (EVENTS, TABLE | {"keep": {"evnt": ["view"]}}, "dataset.keep.evnt", "'event'"),
    "a row that is not kept is bad, and all are read": (
        b"uid,iid,event\na,x,view\nb,,login\n",
        TABLE,
        "line 3",
        "'iid'",
    ),
    "MIND: no marks": (MIND.replace(b"N5-0", b"N5"), {"reader": "mind"}, "line 3", "marks"),
    "MIND: another date": (MIND.replace(b"11/14/2019", b"14.11.2019"), {"reader": "mind"}, "line 3", "time"),
    "MIND: no user": (MIND.replace(b"U1", b""), {"reader": "mind"}, "line 3", "user"),
    "MIND: a mark without an item": (MIND.replace(b"N9-1", b"-1"), {"reader": "mind"}, "line 3", "item"),
    "MIND: a column missing": (MIND.replace(b"\tN5-0 N9-1", b""), {"reader": "mind"}, "line 3", "4 columns"),
}
# Here the file has no part in the mistake, and need not be named.
OPTIONS = {
    "table: separator of two": (b"uid,iid\na,b\n", TABLE | {"separator": "::"}, "dataset.separator"),
    "JSON: columns by number": (
        REVIEW,
        {"reader": "json", "user_column": 0, "item_column": "asin"},
        "dataset.reader=json",
    ),
    "JSON: no item_column": (REVIEW, {"reader": "json", "user_column": "reviewerID"}, "dataset.item_column"),
    "unknown reader": (b"1 2\n", {"reader": "sequences"}, "dataset.reader=sequences", "'sequence'"),
    "columns for a reader that knows them": (b"1 2\n", {"user_column": "uid"}, "dataset.reader=sequence"),
    "a column that is neither name nor number": (
        b"1 2\n",
        {"reader": "table", "user_column": -1, "item_column": 1},
        "dataset.user_column=-1",
    ),
    "name of a number": (b"1 2\n", {"file": 5, "path": None}, "dataset.file=5"),
    "no name": (b"1 2\n", {"file": [], "path": None}, "dataset.file=[]"),
    "a number among names": (b"1 2\n", {"file": ["a", 5], "path": None}, "dataset.file="),
    "path of a number": (b"1 2\n", {"path": 2020}, "dataset.path=2020"),
    "member of a number": (b"1 2\n", {"member": 2020}, "dataset.member=2020"),
    "attributes of a number": (b"1 2\n", {"attributes": 2020}, "dataset.attributes=2020"),
    "separator of a number": (b"112\n", {"reader": "table", "separator": 1}, "dataset.separator=1"),
    "quotes of text": (b"1 2\n", {"reader": "table", "quotes": "no"}, "dataset.quotes=no"),
    "header of text": (b"1 2\n", {"reader": "table", "header": "yes"}, "dataset.header=yes"),
    "no such encoding": (b"1 2\n", {"encoding": "utf-9"}, "dataset.encoding=utf-9"),
    "an encoding that fails": (b"1 2\n", {"encoding": "undefined"}, "dataset.encoding=undefined"),
    "an encoding of bytes": (b"1 2\n", {"encoding": "hex"}, "dataset.encoding=hex"),
    "keep that is no mapping": (b"1 2\n", {"reader": "table", "keep": "view"}, "dataset.keep=view"),
    "time_format without a field": (
        b"uid,iid,when\na,b,1\n",
        TIMED | {"time_format": "day"},
        "dataset.time_format=day",
    ),
    "time_unit of no length": (b"uid,iid,when\na,b,1\n", TIMED | {"time_unit": "hours"}, "dataset.time_unit=hours"),
    "session_minutes of text": (b"1 2\n", {"session_minutes": "half"}, "dataset.session_minutes=half"),
    "sessions without times": (b"1 2\n", {"session_minutes": 30}, "dataset.session_minutes=30"),
    "drop_repeats of text": (b"1 2\n", {"drop_repeats": "no"}, "dataset.drop_repeats=no"),
    "k_core of text": (b"1 2\n", {"k_core": "five"}, "dataset.k_core=five"),
    "k_core below 1": (b"1 2\n", {"k_core": 0}, "dataset.k_core=0"),
    "md5 of no file": (b"1 2\n", {"md5": 5}, "dataset.md5=5"),
    "md5 as a list": (b"1 2\n", {"md5": ["0"]}, "dataset.md5=['0']"),
    "min_rating of text": (b"1 2\n", {"min_rating": "4"}, "dataset.min_rating=4"),
}
