"""The generator: exact labels, and every property of the process that docs/synthetic.md states."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from seqrec.data.synthetic import Synthetic, World, draw_lengths, walk
from seqrec.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "synthetic.yaml"


def make(**changes) -> Synthetic:
    values = OmegaConf.to_container(OmegaConf.load(CONF))
    assert values.pop("_target_") == "seqrec.data.synthetic.Synthetic"
    return Synthetic(**(values | changes))


def users_of(data):
    return np.repeat(np.arange(data.num_users), np.diff(data.offsets))


def rows_of(data):
    return np.split(data.items, data.offsets[1:-1])


def simulate(config):
    world, lengths = World(config), draw_lengths(config)
    return world, lengths, *walk(config, world, lengths)


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
    assert noisy.attributes.tobytes() == clean.attributes.tobytes()


def test_noise_of_a_lower_share_is_contained_in_that_of_a_higher_one():
    found = []
    for share in (0.1, 0.2, 0.5):
        data = make(noise_share=share).load()
        rows = np.stack([users_of(data), data.items, data.times], axis=1)[data.noise]
        found.append(set(map(tuple, rows)))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.5])
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


def test_shapes_types_and_attributes():
    data = make(items=901).load()
    assert data.items.dtype == np.int32
    assert data.times.dtype == np.float64
    assert data.noise.dtype == bool
    assert data.offsets.dtype == data.user_ids.dtype == data.item_ids.dtype == np.int64
    assert data.attributes.dtype == np.int32
    assert data.attributes.shape == (902, 2)
    assert (data.num_users, data.num_items, data.offsets[-1]) == (2200, 901, len(data.items))
    assert data.attributes[0].tolist() == [0, 0]
    assert sorted(set(data.attributes[1:, 0])) == list(range(1, 33))
    sizes = np.bincount(data.attributes[1:, 0])[1:]
    assert sizes.min() >= 27
    assert sizes.max() <= 30
    assert np.bincount(data.attributes[1:, 1]).tolist() == [0, 451, 450]


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
        ranked = np.sort(counts[data.attributes[:, 0] == cluster])[::-1][:40]
        # Two near-equivalent items share a rank.
        slope = np.polyfit(np.log(np.arange(40) // 2 + 1), np.log(ranked), 1)[0]
        assert abs(slope + zipf) < 0.08


def overlap_of_ends(drift):
    """Mean overlap of the clusters of a user's first and last eight events, of forty."""
    config = make(drift=drift, transition_share=0, min_length=40, mean_length=40, max_length=40, clusters=8, items=1600)
    data = config.load()
    clusters = data.attributes[data.items, 0].reshape(-1, 40)
    early, late = clusters[:, :8, None], clusters[:, None, -8:]
    return (early == late).mean()


def test_interests_drift():
    still, slow, fast = (overlap_of_ends(drift) for drift in (0, 0.02, 0.3))
    assert still > 0.6
    assert abs(fast - 1 / 8) < 0.02  # chance
    assert fast + 0.1 < slow < still - 0.1


def follow_rates(lags=(1, 2), **changes):
    """Share of the events that are a successor of the event so many steps before."""
    world, lengths, _, state = simulate(make(spurious_strength=0, **changes))
    slots, rates = state["slots"], []
    for lag in lags:
        live = np.arange(lag, slots.shape[1]) < lengths[:, None]
        hit = (world.successors[slots[:, :-lag]] == slots[:, lag:, None]).any(2)
        rates.append(hit[live].mean())
    return rates


def test_transitions_are_first_order_without_memory_and_reach_back_with_it():
    none = follow_rates(transition_share=0)
    first = follow_rates(transition_share=0.5, memory=0)
    further = follow_rates(transition_share=0.5, memory=0.5)
    assert none[0] < 0.05
    assert 0.4 < first[0] < 0.55
    assert first[1] < 0.1
    assert 0.2 < further[0] < 0.35
    assert further[1] > first[1] + 0.08


# --- the whole process against its equation ------------------------------------------------------------------------


def next_item_probability(config, world, lengths, history, state):
    """p(last event | hidden state, everything before), one user and one item at a time, as docs/synthetic.md writes it."""
    scores = np.zeros((len(lengths), config.items + 1))
    match = (1 + config.spurious_strength) / 2
    for user, length in enumerate(lengths):
        slot = np.zeros(len(world.cluster))
        for weight, interest in zip(state["weights"][user], state["interests"][user], strict=True):
            inside = world.cluster == interest
            rank = np.arange(1, inside.sum() + 1)
            slot[inside] += (1 - config.transition_share) * weight * rank**-config.zipf / (rank**-config.zipf).sum()
        before = state["slots"][user, : length - 1]
        for lag in range(1, length):
            chance = (
                (1 - config.memory) * config.memory ** (lag - 1) if lag < length - 1 else config.memory ** (lag - 1)
            )
            for k, successor in enumerate(world.successors[before[-lag]]):
                share = 1 / (k + 1) / sum(1 / j for j in range(1, config.successors + 1))
                slot[successor] += config.transition_share * chance * share
        for style in (0, 1):
            scores[user, world.versions[:, style]] += slot * (match if style == state["style"][user] else 1 - match)
        scores[user, history[user, : length - 1]] = 0
    return scores / scores.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def process():
    config = make(users=4000)
    world, lengths, history, state = simulate(config)
    return config, lengths, history, next_item_probability(config, world, lengths, history, state)


def test_last_events_have_the_stated_probabilities(process):
    _, lengths, history, chance = process
    users = np.arange(len(lengths))
    target = chance[users, history[users, lengths - 1]]
    assert (target > 0).all()
    best = -np.sort(-chance, axis=1)
    for k in (1, 5, 20):
        inside = best[:, :k].sum(1)  # the stated chance that the target is among the k likeliest
        hits = target >= best[:, k - 1]
        assert abs(hits.mean() - inside.mean()) < 4 * np.sqrt((inside * (1 - inside)).sum()) / len(users) + 1e-3
    spread = (chance**3).sum(1) - (chance**2).sum(1) ** 2
    assert abs(target.mean() - (chance**2).sum(1).mean()) < 4 * np.sqrt(spread.sum()) / len(users)


def hit_rate_and_ndcg(scores, rows):
    hits, gains = [], []
    for score, row in zip(scores, rows, strict=True):
        masked = np.array(score, float)
        masked[0] = -np.inf
        masked[row[:-1]] = -np.inf
        better, equal = (masked > masked[row[-1]]).sum(), (masked == masked[row[-1]]).sum()
        places = np.arange(better + 1, better + equal + 1)
        hits.append((places <= 10).mean())
        gains.append(np.where(places <= 10, 1 / np.log2(places + 1), 0).mean())
    return np.mean(hits), np.mean(gains)


def test_default_orders_popularity_markov_history_and_oracle():
    """Prints the figures of docs/synthetic.md."""
    config = make()
    rows = rows_of(config.load())
    popular, follow = np.zeros(config.items + 1), np.zeros((config.items + 1, config.items + 1))
    for row in rows:
        for i, item in enumerate(row[:-2]):
            popular[item] += 1
            for distance, later in enumerate(row[i + 1 : -2][:20], start=1):
                follow[item, later] += 0.8 ** (distance - 1)
    world, lengths, history, state = simulate(config)
    history_scores = [sum(0.5**age * follow[item] for age, item in enumerate(row[-2::-1][:10])) for row in rows]
    figures = {
        "most popular": hit_rate_and_ndcg(itertools.repeat(popular, len(rows)), rows),
        "Markov, newest item": hit_rate_and_ndcg([follow[row[-2]] for row in rows], rows),
        "Markov, last 10 items weighted .5^age": hit_rate_and_ndcg(history_scores, rows),
        "oracle": hit_rate_and_ndcg(next_item_probability(config, world, lengths, history, state), rows),
    }
    for name, (hit_rate, ndcg) in figures.items():
        print(f"| {name} | {hit_rate:.4f} | {ndcg:.4f} |")
    popular, newest, longer, oracle = (hit_rate for hit_rate, _ in figures.values())
    assert 0.02 < popular < 0.08
    assert newest > 3 * popular
    assert longer > newest + 0.02
    assert oracle > longer + 0.15


# --- spurious attribute --------------------------------------------------------------------------------------------


def style_matches(**changes):
    """Share of the events whose item has the user's style: in the training part, at validation, at the test."""
    config = make(users=8000, **changes)
    world, lengths, history, state = simulate(config)
    match = world.attributes[history, 1] - 1 == state["style"][:, None]
    users = np.arange(len(lengths))
    train = match[np.arange(history.shape[1]) < lengths[:, None] - 2]
    return train.mean(), match[users, lengths - 2].mean(), match[users, lengths - 1].mean()


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_spurious_attribute_follows_style_and_turns_in_the_test_only(strength):
    up = (1 + strength) / 2
    for flip in (False, True):
        train, valid, test = style_matches(spurious_strength=strength, flip_test=flip)
        assert abs(train - up) < 0.04
        assert abs(valid - up) < 0.04
        assert abs(test - (1 - up if flip else up)) < 0.04


def test_spurious_correlation_can_be_read_from_the_data_alone():
    for flip in (False, True):
        data = make(spurious_strength=0.8, flip_test=flip).load()
        style = [data.attributes[row, 1] - 1.5 for row in rows_of(data)]
        habit = np.array([values[:-2].mean() for values in style])
        assert np.corrcoef(habit, [values[-2] for values in style])[0, 1] > 0.3
        assert np.corrcoef(habit, [values[-1] for values in style])[0, 1] * (-1 if flip else 1) > 0.3


def test_flip_changes_last_events_only_and_to_the_near_equivalent():
    plain, flipped = make(noise_share=0.2).load(), make(noise_share=0.2, flip_test=True).load()
    last = plain.offsets[1:] - 1
    rest = np.ones(len(plain.items), bool)
    rest[last] = False
    # Noise keeps clear of the targets, so that a flipped target may move a noise item, rarely.
    assert (plain.items[rest & ~plain.noise] == flipped.items[rest & ~plain.noise]).all()
    assert (plain.items[plain.noise] != flipped.items[plain.noise]).mean() < 0.005
    assert (plain.noise == flipped.noise).all()
    assert (plain.times == flipped.times).all()
    assert (plain.items[last] != flipped.items[last]).mean() > 0.8  # the rest had the near-equivalent already
    cluster = plain.attributes[:, 0]
    assert (cluster[plain.items[last]] == cluster[flipped.items[last]]).all()
    assert len(np.unique(users_of(flipped) * 1000 + flipped.items)) == len(flipped.items)


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


def test_a_million_interactions_take_seconds():
    start = time.process_time()
    data = make(users=110_000, items=20_000, clusters=200, noise_share=0.1).load()
    assert len(data.items) > 1_000_000
    assert time.process_time() - start < 15  # about one and a half on one core; a loop over users would take minutes


def test_users_overlap_in_time():
    data = make().load()
    late = data.times > np.quantile(data.times, 0.9)
    has_late = np.bincount(users_of(data), late) > 0
    has_early = np.bincount(users_of(data), ~late) > 0
    assert (has_late & has_early).sum() > 100
    assert (~has_late & has_early).sum() > 1000


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("noise_share", 1.0, "below 1"),
        ("noise_share", -0.1, "from 0"),
        ("noise_share", float("nan"), "a number"),
        ("noise_share", "much", "a number"),
        ("noise_source", "unifrom", "did you mean uniform"),
        ("noise_source", "popular", "did you mean popularity"),
        ("items", 63, "dataset.clusters=32"),
        ("items", 99, "at least 100"),
        ("items", 900.5, "a whole number"),
        ("users", 0, "at least 1"),
        ("users", True, "a whole number"),
        ("min_length", 2, "at least 3"),
        ("mean_length", 4.5, "from 5 to 50"),
        ("mean_length", 51, "from 5 to 50"),
        ("max_length", 4, "at least 5"),
        ("drift", 1.5, "from 0 to 1"),
        ("memory", 1, "below 1"),
        ("spurious_strength", -0.5, "from 0 to 1"),
        ("flip_test", "yes", "true or false"),
        ("seed", -1, "at least 0"),
        ("zipf", float("inf"), "at least 0"),
    ],
)
def test_bad_values_name_key_value_and_way_out(key, value, hint):
    with pytest.raises(UserError) as caught:
        make(**{key: value})
    assert f"dataset.{key}={value} " in str(caught.value)
    assert hint in str(caught.value)


def test_noise_needs_enough_items():
    with pytest.raises(UserError, match=r"dataset.items=900 .* dataset.noise_share=0.9 needs at least 1000 items"):
        make(noise_share=0.9)
