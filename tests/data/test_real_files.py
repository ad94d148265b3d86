"""The real files, where SEQREC_DATA says they lie: counts, checksums, and formats that must agree."""

import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from seqrec.data.source import FileDataset

CONF = Path(__file__).parents[2] / "conf" / "dataset"
DATA = Path(os.environ.get("SEQREC_DATA", ""))
ALWAYS = ["apps", "beauty", "beauty-recbole", "games", "games-sasrec", "ml-100k", "ml-1m-seq", "music", "nowplaying"]
ALWAYS += ["sports", "tmall"]


def files_of(name):
    files = OmegaConf.load(CONF / f"{name}.yaml").get("file") or []
    return [files] if isinstance(files, str) else list(files)


# the others are read where somebody has put them there
THERE = (
    path.stem for path in sorted(CONF.glob("*.yaml")) if any((DATA / file).exists() for file in files_of(path.stem))
)
NAMES = sorted({*ALWAYS, *(THERE if DATA.name else ())})

pytestmark = pytest.mark.skipif("SEQREC_DATA" not in os.environ, reason="SEQREC_DATA is not set")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def config_of(name):
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    del config["_target_"]
    return config | {"url": None}  # tests fetch nothing


def load(name, folder):
    config = config_of(name)
    if not any((DATA / file).exists() for file in files_of(name)):
        pytest.skip(f"{config['file']} is not there: SEQREC_DATA is not set to a complete folder")
    return FileDataset(**config).load(DATA, folder)


def own(file, folder, **options):
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not there: SEQREC_DATA is not set to a complete folder")
    return FileDataset(name="own", path=str(DATA / file), **options).load(DATA, folder)


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_checksum(name, folder):
    dataset, config = load(name, folder), config_of(name)
    assert dataset.warnings == ()
    assert config["sha256"] in (None, dataset.sha256)
    assert config["users"] in (None, dataset.num_users)
    assert config["items"] in (None, dataset.num_items)
    assert config["interactions"] in (None, len(dataset.items))
    assert len(np.unique(dataset.items)) == config["items"]
    assert dataset.items.min() == 1
    if dataset.times is not None:
        later = np.diff(dataset.times) >= 0
        later[dataset.offsets[1:-1] - 1] = True  # from one user to the next
        assert later.all()


@pytest.mark.parametrize("name", ["beauty", "sports", "games", "apps", "ml-1m-seq"])
def test_dense_items_keep_their_numbers(name, folder):
    dataset = load(name, folder)
    assert np.array_equal(dataset.item_ids, np.arange(dataset.num_items + 1))
    with (DATA / config_of(name)["file"]).open() as lines:
        for row, (user, *items) in enumerate(map(str.split, lines)):
            assert dataset.user_ids[row] == int(user)
            assert dataset.items[dataset.offsets[row] : dataset.offsets[row + 1]].tolist() == list(map(int, items))


@pytest.mark.parametrize(
    ("name", "statistics"),
    [
        ("beauty", {"mean_length": 8.876, "min_length": 5, "max_length": 204}),
        ("games-sasrec", {"mean_length": 9.258, "min_length": 1, "max_length": 860}),
        ("ml-100k", {"mean_length": 106.045, "min_length": 20, "max_length": 737}),
        ("ml-1m-seq", {"mean_length": 165.598, "min_length": 20, "max_length": 2314}),
        ("music", {"mean_length": 7.181, "min_length": 5, "max_length": 42}),
        ("tmall", {"mean_length": 6.38, "min_length": 2, "max_length": 40}),
        ("nowplaying", {"mean_length": 7.444, "min_length": 2, "max_length": 30}),
    ],
)
def test_statistics(name, statistics, folder):
    found = load(name, folder).statistics()
    assert {key: found[key] for key in statistics} == statistics


def assert_equal(one, other):
    for name in ("items", "offsets", "user_ids", "item_ids", "times"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_recbole_file_equals_the_official_one(folder):
    assert_equal(load("ml-100k", folder), own("ml-100k.inter", folder, reader="recbole"))


def test_table_equals_the_official_one(folder):
    columns = {"user_column": "user_id:token", "item_column": "item_id:token", "time_column": "timestamp:float"}
    assert_equal(load("ml-100k", folder), own("ml-100k.inter", folder, reader="table", **columns))


def test_csv_equals_json_up_to_ties(folder):
    json, csv = load("music", folder), own("ratings_Musical_Instruments_5.csv", folder, reader="amazon_csv")
    for name in ("user_ids", "item_ids", "offsets", "times"):
        assert np.array_equal(getattr(json, name), getattr(csv, name)), name
    user = np.repeat(np.arange(json.num_users), np.diff(json.offsets))
    without_ties = [dataset.items[np.lexsort((dataset.items, dataset.times, user))] for dataset in (json, csv)]
    assert np.array_equal(*without_ties)


def test_beauty_has_the_same_users_in_both_layouts(folder):
    sequence, recbole = load("beauty", folder), load("beauty-recbole", folder)
    assert np.array_equal(sequence.user_ids, recbole.user_ids)
    assert np.array_equal(sequence.offsets, recbole.offsets)


def test_min_rating_against_a_count_of_lines(folder):
    with (DATA / "ml-100k.u.data").open() as lines:
        rows = [line.split("\t") for line in lines]
    kept = [row for row in rows if int(row[2]) >= 4]
    dataset = own("ml-100k.u.data", folder, reader="movielens", min_rating=4)
    assert len(dataset.items) == len(kept)
    assert dataset.num_users == len({row[0] for row in kept})
    assert dataset.num_items == len({row[1] for row in kept})


def test_five_core_of_ml_1m(folder):
    dataset = own("ml-1m.txt", folder, reader="sequence", k_core=5)
    assert (dataset.num_users, dataset.num_items, len(dataset.items)) == (6040, 3416, 999_611)
    counts = np.bincount(dataset.items)[1:]
    assert counts.min() >= 5
