"""Every named table in the layout of its official home gives the same sequences, without a key of the user's."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from field_files import ROWS, history, mind, moment, written
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.build import build
from seqrec.data.source import FileDataset
from seqrec.utils.instantiate import make

AMERICAN = "%a %b %d %H:%M:%S +0000 %Y"


def zipped(member, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, content)
    return stream.getvalue()


def parquet():
    stream = io.BytesIO()
    table = pd.DataFrame(ROWS, columns=["uid", "item_id", "timestamp"])
    table.assign(is_organic=1, played_ratio_pct=100).to_parquet(stream)
    return stream.getvalue()


def movielens(size):
    rows = written(lambda u, i, t: f"{u},{i},3.5,{t}", "userId,movieId,rating,timestamp\n")
    return f"ml-{size}.zip", zipped(f"ml-{size}/ratings.csv", rows)


def foursquare(city):
    rows = written(
        lambda u, i, t: f'{u}\tv{i}\tc1\tCaf\u00e9 "1"\t40.7\t-74.0\t-240\t{moment(t, AMERICAN)}', encoding="latin-1"
    )
    return f"dataset_TSMC2014_{city}.txt", rows


def steam(user, item, time):
    return repr({"username": f"it's u{user}", "product_id": str(item), "date": moment(time, "%Y-%m-%d %H:%M:%S")})


def yelp(user, item, time):
    date = moment(time, "%Y-%m-%d %H:%M:%S")
    return json.dumps({"review_id": "r", "user_id": f"U{user}", "business_id": f"B{item}", "stars": 4.0, "date": date})


def kuairand():
    header = "user_id,video_id,date,hourmin,time_ms,is_click,is_like\n"
    ignored = [f"{user},99,20220408,400,1,0,0\n" for user in range(60)]
    lines = [f"{user},{item},20220408,400,{1000 * time},1,0\n" for user, item, time in ROWS]
    return {
        "log_standard_4_08_to_4_21_pure.csv": "".join([header, *lines[:200], *ignored]).encode(),
        "log_standard_4_22_to_5_08_pure.csv": "".join([header, *lines[200:]]).encode(),
    }


LASTFM = f"lastfm-dataset-1K/{'userid-timestamp-artid-artname-traid-traname'}.tsv"
BEHAVIORS = "".join(map(mind, range(60))).encode()
# configuration -> path below data_dir, and the content (of each file of a folder)
LAYOUTS = {
    "mind-small": ("MINDsmall_train/behaviors.tsv", BEHAVIORS),
    "mind-large": ("MINDlarge_train/behaviors.tsv", BEHAVIORS),
    "amazon-2018": ("Video_Games.csv", written(lambda u, i, t: f"B{i},A{u},5.0,{t}")),
    "amazon-2023": (
        "Video_Games.csv.gz",
        gzip.compress(written(lambda u, i, t: f"A{u},B{i},5.0,{t}000", "user_id,parent_asin,rating,timestamp\n")),
    ),
    "steam": ("steam_reviews.json.gz", gzip.compress(written(steam))),
    "yelp-json": ("yelp_academic_dataset_review.json", written(yelp)),
    "ml-20m": movielens("20m"),
    "ml-25m": movielens("25m"),
    "ml-32m": movielens("32m"),
    "lastfm-1k": (LASTFM, written(lambda u, i, t: f'user_{u:06}\t{moment(t)}\t\tThe "{i}\tid\tA song')),
    "gowalla": (
        "loc-gowalla_totalCheckins.txt.gz",
        gzip.compress(written(lambda u, i, t: f"{u}\t{moment(t)}\t30.2\t-97.7\t{i}")),
    ),
    "foursquare-nyc": foursquare("NYC"),
    "foursquare-tky": foursquare("TKY"),
    "retailrocket": (
        "events.csv",
        written(lambda u, i, t: f"{t}000,{u},view,{i},", "timestamp,visitorid,event,itemid,transactionid\n"),
    ),
    "yoochoose": (
        "yoochoose-clicks.dat",
        written(lambda u, i, t: f"{u},{moment(t, '%Y-%m-%dT%H:%M:%S')}.868Z,{i},S"),
    ),
    "diginetica": (
        "train-item-views.csv",
        written(lambda u, i, t: f"{u};NA;{i};{t}000;2016-05-09", "sessionId;userId;itemId;timeframe;eventdate\n"),
    ),
    "taobao": ("UserBehavior.csv", written(lambda u, i, t: f"{u},{i},7,pv,{t}")),
    "kuairec": (
        "KuaiRec 2.0/data/big_matrix.csv",
        written(
            lambda u, i, t: f"{u},{i},100,200,{moment(t, '%Y-%m-%d %H:%M:%S')}.1,20200705,{t}.25,0.5",
            "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n",
        ),
    ),
    "kuairand": ("KuaiRand-Pure/log_standard", kuairand()),
    "yambda": ("yambda/flat/50m/listens.parquet", parquet()),
}


@pytest.fixture(params=LAYOUTS)
def placed(request, tmp_path):
    """The name of a configuration whose file lies in tmp_path."""
    path, content = tmp_path / LAYOUTS[request.param][0], LAYOUTS[request.param][1]
    for name, data in (content if isinstance(content, dict) else {path.name: content}).items():
        file = path / name if isinstance(content, dict) else path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return request.param


def number(identity):
    return int("".join(filter(str.isdigit, str(identity))))


def test_the_official_layout_gives_the_sequences(placed, tmp_path):
    config = configure(f"dataset={placed}", "dataset.k_core=null", f"data_dir={tmp_path}").dataset
    dataset = make(OmegaConf.to_container(config), "dataset", name=placed).load(tmp_path, tmp_path / "cache")
    items = np.array([number(item) for item in dataset.item_ids[1:]])
    sequences = np.split(items[dataset.items - 1], dataset.offsets[1:-1])
    found = {number(user): row.tolist() for user, row in zip(dataset.user_ids, sequences, strict=True)}
    assert found == {user: history(user) for user in range(60)}
    if dataset.times is not None:
        assert 1.6e9 <= dataset.times.min() <= dataset.times.max() < 1.7e9  # seconds


def test_all_tables_of_the_configuration_are_tried():
    files = (Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml")
    tables = [
        path.stem for path in files if path.read_text().split("reader: ")[-1].split()[0] in ("table", "json", "mind")
    ]
    assert set(tables) - {"file"} == set(LAYOUTS)


@pytest.mark.parametrize("name", ["retailrocket", "yambda"])
def test_an_official_file_from_the_configuration_to_metrics(name, tmp_path):
    path = tmp_path / LAYOUTS[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(LAYOUTS[name][1])
    common = [f"dataset={name}", f"data_dir={tmp_path}", f"cache_dir={tmp_path}/cache", "eval.cutoffs=[5,10]"]
    experiment = build(configure("method=markov", "backbone=none", "loss=none", *common))
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, experiment.fabric.device)
    metrics = experiment.evaluator.metrics(ranks)
    assert [round(metrics[metric], 4) for metric in ("HR@5", "NDCG@10", "MRR")] == [0.2017, 0.1688, 0.1492]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
def test_a_session_is_as_long_in_every_unit(unit, factor, tmp_path):
    (tmp_path / "clicks.csv").write_text(f"u,i,t\na,1,0\na,2,{60 * factor}\na,3,{121 * factor}\n")
    columns = {"user_column": "u", "item_column": "i", "time_column": "t", "time_unit": unit}
    own = FileDataset("own", "table", path=str(tmp_path / "clicks.csv"), session_minutes=1, **columns)
    dataset = own.load(tmp_path, tmp_path / "cache")
    assert (dataset.user_ids.tolist(), dataset.offsets.tolist()) == (["a:1", "a:2"], [0, 2, 3])
