"""Noise of the training part: what it leaves alone, what the split becomes, what is recorded."""

import time
from pathlib import Path

import numpy as np
import pytest
from job_setting import configure

from seqrec.build import build
from seqrec.data.dataset import Dataset
from seqrec.data.sequences import ranges
from seqrec.data.split import LeaveOneOut, Temporal
from seqrec.noise.training import TrainingNoise

CONF = Path(__file__).parents[2] / "conf"
OPERATORS = sorted(path.stem for path in (CONF / "noise").glob("*.yaml") if path.stem != "none")
KEYS = {
    "operators": ["insert"],
    "ratio": 0.5,
    "where": "anywhere",
    "last": 1,
    "source": "uniform",
    "power": 1.0,
    "window": None,
    "seed": 1,
    "users": 1.0,
    "eval_history": "noisy",
}


def noise(**keys):
    return TrainingNoise(**(KEYS | keys))


def lists(sequences):
    return [sequences.items[a:b].tolist() for a, b in zip(sequences.start, sequences.stop, strict=True)]


@pytest.mark.parametrize("eval_history", ["noisy", "clean"])
@pytest.mark.parametrize("operator", ["insert", "replace", "delete", "truncate", "burst", "swap"])
@pytest.mark.parametrize("temporal", [False, True])
def test_targets_and_masking_stay_clean_and_inputs_begin_with_the_noisy_history(
    dataset_of, operator, eval_history, temporal
):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(30)[: 3 + user % 9].tolist() for user in range(40)]
    rows = [[item + 1 for item in row] for row in rows]
    times = [np.sort(rng.random(len(row))).tolist() for row in rows]
    data = dataset_of(rows, times, num_items=60)
    split = (Temporal(0.7) if temporal else LeaveOneOut())(data)
    noisy, record = noise(operators=[operator], eval_history=eval_history)(data, split)
    assert record["realised"][operator] > 0
    assert lists(noisy.train) != lists(split.train)
    assert len(noisy.noise) == len(noisy.train.items)
    for part, clean in ((noisy.valid, split.valid), (noisy.test, split.test)):
        assert part.user.tolist() == clean.user.tolist()
        assert part.target.tolist() == clean.target.tolist()
        assert lists(part.history) == lists(clean.history)
        if eval_history == "clean":
            assert lists(part.inputs) == lists(clean.inputs)
            continue
        trained, original = lists(noisy.train), lists(split.train)
        for user, inputs, before in zip(part.user, lists(part.inputs), lists(clean.inputs), strict=True):
            assert inputs == trained[user] + before[len(original[user]) :]


def test_labels_follow_their_items(dataset_of):
    data = dataset_of([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10]], num_items=50)
    noisy, record = noise(ratio=1.0)(data, LeaveOneOut()(data))
    index = ranges(noisy.train.start, noisy.train.stop)
    added = noisy.train.items[index][noisy.noise[index]]
    assert len(added) == 6 == record["realised"]["insert"]
    assert set(noisy.train.items[index][~noisy.noise[index]]) == {1, 2, 3, 4, 7, 8}
    assert record["noise_share"] == 0.5
    assert record["nominal"] == 6
    assert record["interactions"] == 12


def test_ratio_zero_is_the_clean_split_itself(dataset, split):
    noisy, record = noise(ratio=0)(dataset, split)
    assert noisy is split
    assert record["realised"] == {"insert": 0}


def test_a_share_of_the_users_is_hit_and_a_lower_share_is_contained(dataset_of):
    data = dataset_of([[1, 2, 3, 4, 5]] * 400, num_items=50)
    split = LeaveOneOut()(data)
    hit = []
    for users in (0.0, 0.25, 0.6, 1.0):
        noisy, record = noise(users=users, ratio=1.0)(data, split)
        hit.append({user for user, row in enumerate(lists(noisy.train)) if row != [1, 2, 3]})
        assert len(hit[-1]) == record["users"] == pytest.approx(users * 400, abs=40)
    assert hit[0] < hit[1] < hit[2] < hit[3]


def test_the_hash_is_that_of_the_noisy_training_part(dataset_of):
    data = dataset_of([[1, 2, 3, 4, 5]] * 20, num_items=50)
    split = LeaveOneOut()(data)
    first, again, other = (noise(seed=seed)(data, split)[1]["noise_sha256"] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", OPERATORS)
def test_every_choice_of_the_group_builds_and_is_independent_of_the_method(name):
    small = ("dataset.users=60", "dataset.items=120", "dataset.clusters=4", f"noise={name}", "noise.ratio=.4")
    one, two = (
        build(configure(*small, *choice)) for choice in (("method=plain", "trainer.batch_size=7"), ("method=markov",))
    )
    assert np.array_equal(one.split.train.items, two.split.train.items)
    assert one.noise == two.noise
    assert sum(one.noise["realised"].values()) == pytest.approx(one.noise["nominal"], rel=0.15)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_noise_follows_the_seed_of_the_run(name):
    assert configure(f"noise={name}", "seed=7").noise.seed == 7


def test_known_noise_of_the_data_stays_known():
    known = ("method=markov", "dataset.noise_share=.2", "noise=insert")
    share = {ratio: build(configure(*known, f"noise.ratio={ratio}")).noise["noise_share"] for ratio in (0, 0.5)}
    assert 0.2 < share[0] < 0.35  # the two newest items of a user, which are clean, are not in the training part
    assert share[0.5] == pytest.approx((share[0] + 0.5) / 1.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "mixed"])
def test_a_million_interactions_take_less_than_two_seconds(dataset_of, name):
    rng = np.random.default_rng(0)
    lengths = rng.poisson(6, 110_000) + 5
    data = Dataset(
        name="large",
        items=rng.integers(1, 20_001, lengths.sum()).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        user_ids=np.arange(110_000),
        item_ids=np.arange(20_001),
    )
    split = LeaveOneOut()(data)
    began = time.process_time()
    _, record = noise(operators=[name], ratio=0.3)(data, split)
    seconds = time.process_time() - began
    print(f"\n{name}: {split.train.lengths.sum():,} interactions, {record['realised'][name]:,} hit, {seconds:.2f} s")
    assert seconds < 2


def test_other_users_are_hit_under_another_seed(dataset_of):
    data = dataset_of([[1, 2, 3, 4, 5, 6]] * 200, num_items=30)
    clean = LeaveOneOut()(data)

    def hit(seed):
        noisy, _ = noise(users=0.5, ratio=1.0, seed=seed)(data, clean)
        return noisy.train.lengths > clean.train.lengths

    assert np.mean(hit(1) == hit(2)) == pytest.approx(0.5, abs=0.15)
