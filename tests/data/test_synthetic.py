"""The generator: exact labels, shares, shapes, determinism, speed and refusals; the process is in test_synthetic_process.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from seqrec.data.synthetic import Synthetic

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "synthetic.yaml"


def make(**changes) -> Synthetic:
    values = OmegaConf.to_container(OmegaConf.load(CONF))
    assert values.pop("_target_") == "seqrec.data.synthetic.Synthetic"
    return Synthetic(**(values | changes))


def users_of(data):
    return np.repeat(np.arange(data.num_users), np.diff(data.offsets))


def rows_of(data):
    return np.split(data.items, data.offsets[1:-1])


# --- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["uniform", "popularity"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_taking_the_labelled_noise_out_gives_the_noise_free_data(share, source):
    clean, noisy = make().load(), make(noise_share=share, noise_source=source).load()
    kept = ~noisy.noise
    assert noisy.noise.any()
    assert not clean.noise.any()
    assert noisy.items[kept].tobytes() == clean.items.tobytes()
    assert noisy.times[kept].tobytes() == clean.times.tobytes()
    np.testing.assert_array_equal(users_of(noisy)[kept], users_of(clean))
    assert all((noisy.attributes[kind] == clean.attributes[kind]).all() for kind in ("cluster", "style"))


def test_noise_of_a_lower_share_is_contained_in_that_of_a_higher_one():
    found = []
    for share in (0.1, 0.2, 0.5):
        data = make(noise_share=share).load()
        rows = np.stack([users_of(data), data.items, data.times], axis=1)[data.noise]
        found.append(set(map(tuple, rows)))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("share", [0.02, 0.5, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.25))])
def test_noise_share_is_met_and_unbiased_for_short_users(share):
    data = make(noise_share=share, users=20000).load()
    noise = np.bincount(users_of(data), data.noise, minlength=data.num_users)
    length = np.diff(data.offsets) - noise
    expected = share / (1 - share) * length
    assert np.isin(noise - np.floor(expected), (0, 1)).all()
    short = length == 5
    error = noise[short].mean() - share / (1 - share) * 5
    assert short.sum() > 3000
    assert abs(error) < 4 * 0.5 / np.sqrt(short.sum())
    assert abs(data.noise.mean() - share) < 0.005


@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_noise_items_follow_their_source(source):
    data = make(noise_share=0.1, noise_source=source, users=8000).load()
    clean = [row[~noise] for row, noise in zip(rows_of(data), np.split(data.noise, data.offsets[1:-1]), strict=True)]
    counts = np.bincount(np.concatenate([row[:-2] for row in clean]), minlength=data.num_items + 1)
    weight = counts + 1.0 if source == "popularity" else np.ones(data.num_items + 1)
    weight[0] = 0
    # An item is foreign to a user who does not have it: what he has is left out, the rest keeps its proportions.
    expected = np.zeros_like(weight)
    noise = np.bincount(users_of(data), data.noise).astype(int)
    for row, amount in zip(clean, noise, strict=True):
        allowed = weight.copy()
        allowed[row] = 0
        expected += amount * allowed / allowed.sum()
    seen = np.bincount(data.items[data.noise], minlength=data.num_items + 1)
    tenths = np.array_split(np.argsort(counts[1:], kind="stable") + 1, 10)
    for part in tenths:
        assert abs(seen[part].sum() - expected[part].sum()) < 4 * np.sqrt(expected[part].sum())
    ratio = seen[tenths[-1]].sum() / seen[tenths[0]].sum()
    assert ratio > 8 if source == "popularity" else ratio < 1.3


def test_popularity_is_counted_in_the_training_part_alone():
    data = make(noise_share=0.5, noise_source="popularity", users=400, mean_length=5, max_length=5).load()
    clean = data.items[~data.noise].reshape(-1, 5)

    def likelihood(items):
        weight = 1.0 + np.bincount(items.ravel(), minlength=data.num_items + 1)[1:]
        return np.log(weight / weight.sum())[data.items[data.noise] - 1].sum()

    assert likelihood(clean[:, :3]) > likelihood(clean) + 10


def test_noise_stands_anywhere_before_the_validation_target():
    data = make(noise_share=0.05, users=20000, min_length=5, mean_length=5, max_length=5).load()
    rows = np.split(data.noise, data.offsets[1:-1])
    gaps = np.concatenate([np.cumsum(~row)[row] for row in rows])  # clean events before a noise event
    counts = np.bincount(gaps, minlength=4)
    assert len(counts) == 4  # before the first .. before the fourth of five events
    assert (abs(counts - counts.mean()) < 4 * np.sqrt(counts.mean())).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_no_item_twice_last_two_clean_times_increasing(share):
    tight = make(noise_share=share, items=1001, max_length=50, users=500, mean_length=20)  # 1000 is the least for .9
    data = tight.load()
    user = users_of(data)
    assert len(np.unique(user * 2000 + data.items)) == len(data.items)
    assert data.items.min() == 1
    assert data.items.max() == 1001
    assert not data.noise[data.offsets[1:] - 1].any()
    assert not data.noise[data.offsets[1:] - 2].any()
    assert (np.diff(data.times)[np.diff(user) == 0] > 0).all()
    assert data.times.min() >= 0


# --- structure -----------------------------------------------------------------------------------------------------


def test_a_user_may_outrun_the_interests():
    data = make(items=100, clusters=50, max_length=50, min_length=50, mean_length=50, users=50, drift=0).load()
    assert (np.diff(data.offsets) == 50).all()
    assert all(len(set(row)) == 50 for row in rows_of(data))


def test_a_user_may_outrun_the_successors():
    certain = {"transition_share": 1, "successors": 1, "memory": 0, "clusters": 2, "items": 40, "max_length": 20}
    data = make(users=50, min_length=15, mean_length=15, **certain).load()
    assert all(len(set(row)) == len(row) for row in rows_of(data))


def test_shapes_types_and_attributes():
    data = make(items=901).load()
    assert data.items.dtype == np.int32
    assert data.times.dtype == np.float64
    assert data.noise.dtype == bool
    assert data.offsets.dtype == data.user_ids.dtype == data.item_ids.dtype == np.int64
    cluster, style = data.attributes["cluster"], data.attributes["style"]
    assert cluster.dtype == style.dtype == np.int32
    assert cluster.shape == style.shape == (902, 1)
    assert (data.num_users, data.num_items, data.offsets[-1]) == (2200, 901, len(data.items))
    assert cluster[0] == style[0] == 0
    assert sorted(set(cluster[1:, 0])) == list(range(1, 33))
    sizes = np.bincount(cluster[1:, 0])[1:]
    assert sizes.min() >= 27
    assert sizes.max() <= 30
    assert np.bincount(style[1:, 0]).tolist() == [0, 451, 450]


def test_lengths_are_bounded_and_heavy_tailed():
    lengths = np.diff(make(users=20000).load().offsets)
    assert lengths.min() == 5
    assert lengths.max() == 50
    assert abs(lengths.mean() - 9) < 0.15  # the cut takes a little off
    assert np.median(lengths) <= 7
    assert 0.01 < (lengths > 25).mean() < 0.06


@pytest.mark.parametrize("zipf", [0.6, 1.0])
def test_popularity_inside_a_cluster_is_zipf(zipf):
    config = make(
        zipf=zipf, clusters=4, items=800, transition_share=0, users=20000, min_length=3, mean_length=3, max_length=3
    )
    data = config.load()
    counts = np.bincount(data.items, minlength=801)
    for cluster in range(1, 5):
        ranked = np.sort(counts[data.attributes["cluster"][:, 0] == cluster])[::-1][:40]
        # Two near-equivalent items share a rank.
        slope = np.polyfit(np.log(np.arange(40) // 2 + 1), np.log(ranked), 1)[0]
        assert abs(slope + zipf) < 0.08


# --- the rest ------------------------------------------------------------------------------------------------------


def test_same_seed_same_data_in_another_process():
    config = make(noise_share=0.1)
    code = "import sys; from tests.data.test_synthetic import make; print(make(noise_share=0.1).load().sha256, file=sys.stdout)"
    root = Path(__file__).parents[2]
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    digest = config.load().sha256
    assert other.stdout.strip() == digest
    assert len(digest) == 64


def test_every_key_changes_the_hash():
    changes = {"seed": 1, "noise_share": 0.1, "drift": 0.2, "memory": 0.2, "flip_test": True, "gap_days": 20}
    digests = {make(**{key: value}).load().sha256 for key, value in changes.items()} | {make().load().sha256}
    assert len(digests) == len(changes) + 1


@pytest.mark.parametrize(
    ("users", "seconds"), [(11_000, 3), pytest.param(110_000, 20, marks=pytest.mark.slow)], ids=["100k", "1M"]
)
def test_interactions_take_seconds(users, seconds):
    config = make(users=users, items=20_000, clusters=200, noise_share=0.1)
    start = time.process_time()
    assert len(config.load().items) > 9 * users
    assert time.process_time() - start < seconds


def test_users_overlap_in_time():
    data = make().load()
    late = data.times > np.quantile(data.times, 0.9)
    has_late = np.bincount(users_of(data), late) > 0
    has_early = np.bincount(users_of(data), ~late) > 0
    assert (has_late & has_early).sum() > 100
    assert (~has_late & has_early).sum() > 1000
