"""Training batches, negatives and batches of the evaluation against loops over users."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch

from seqrec.data.loader import EvalLoader, TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.data.split import EvalSplit, LeaveOneOut
from seqrec.utils.errors import UserError

ITEMS = 40


@pytest.fixture
def dataset(dataset_of):
    """Users of 1 to 14 items."""
    generator = np.random.default_rng(0)
    return dataset_of([generator.integers(1, ITEMS + 1, 1 + user % 14).tolist() for user in range(50)], num_items=ITEMS)


@pytest.fixture
def train(dataset):
    return LeaveOneOut()(dataset).train


def row_of(sequences, number):
    return sequences.items[sequences.start[number] : sequences.stop[number]].tolist()


def without_padding(batch):
    """Rows of a batch as (user, inputs, targets, offsets); padding must be on the left and consistent."""
    for user, seq, target, index in zip(batch.user, batch.seq, batch.target, batch.index, strict=True):
        real = seq > 0
        assert torch.equal(real, index >= 0)
        assert torch.equal(real, real.sort().values)
        assert not target[~real].any()
        yield int(user), seq[real].tolist(), target[real].tolist(), index[real].tolist()


def batches_of(loader, epoch=0, first=0):
    batches = list(loader.epoch(epoch, first))
    assert all((batch.seq > 0).any(0).all() for batch in batches)  # no wider than its longest row
    return batches


def all_rows(loader):
    return [row for batch in batches_of(loader) for row in without_padding(batch)]


@pytest.mark.parametrize("max_len", [4, 50])
def test_targets_are_the_inputs_shifted_by_one(train, max_len):
    rows = sorted(all_rows(TrainLoader(train, 8, max_len, seed=1)))
    users = [user for user in range(len(train)) if len(row_of(train, user)) >= 2]
    assert [user for user, *_ in rows] == users  # everyone with two items, once an epoch
    for user, inputs, targets, offsets in rows:
        own = row_of(train, user)
        assert inputs == own[:-1][-max_len:]
        assert targets == own[1:][-max_len:]
        assert train.items[offsets].tolist() == inputs
        assert offsets[-1] == train.stop[user] - 2


@pytest.mark.parametrize("max_len", [4, 50])
def test_prefixes_supervise_the_newest_slot_of_every_prefix(train, max_len):
    expected = []
    for user in range(len(train)):
        own = row_of(train, user)
        for at in range(max(1, len(own) - max_len), len(own)):
            inputs = own[:at][-max_len:]
            offsets = range(int(train.start[user]) + at - len(inputs), int(train.start[user]) + at)
            expected.append((user, inputs, [0] * (len(inputs) - 1) + [own[at]], list(offsets)))
    loader = TrainLoader(train, 8, max_len, seed=1, prefixes=True)
    assert sorted(all_rows(loader)) == sorted(expected)
    plain = TrainLoader(train, 8, max_len, seed=1)
    targets = [
        Counter((user, target) for user, _, targets, _ in all_rows(either) for target in targets if target)
        for either in (loader, plain)
    ]
    assert targets[0] == targets[1]
    assert loader.targets == plain.targets == sum(targets[0].values())


@pytest.mark.parametrize("prefixes", [False, True])
def test_order_depends_on_seed_and_epoch_alone(train, prefixes):
    def loader(seed):
        sampler = NegativeSampler(train, ITEMS, 3, shared=False, power=0.0, seed=seed)
        return TrainLoader(train, 8, 5, seed, sampler, prefixes)

    def fingerprint(batches, names=("user", "seq", "target", "index", "negative")):
        return [[getattr(batch, name).tolist() for name in names] for batch in batches]

    one = loader(1)
    first = fingerprint(one.epoch(2))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  (the global generator must not matter)
    assert fingerprint(loader(1).epoch(2)) == first
    assert fingerprint(one.epoch(2)) == first
    for name in ("user", "negative"):
        own = fingerprint(one.epoch(2), [name])
        assert fingerprint(one.epoch(3), [name]) != own
        assert fingerprint(loader(2).epoch(2), [name]) != own
    assert fingerprint(one.epoch(2, first=3)) == first[3:]
    assert list(one.epoch(2, first=len(one))) == []
    assert len(one) == len(first) > 4
    assert [len(batch[0]) for batch in first[:-1]] == [8] * (len(first) - 1)


def test_methods_meet_the_same_batches_whatever_negatives_they_ask_for(train):
    sampler = NegativeSampler(train, ITEMS, 3, shared=True, power=0.0, seed=1)
    for with_negatives, without in zip(
        TrainLoader(train, 8, 5, 1, sampler).epoch(0), TrainLoader(train, 8, 5, 1).epoch(0), strict=True
    ):
        assert torch.equal(with_negatives.seq, without.seq)
        assert without.negative is None


@pytest.mark.parametrize("prefixes", [False, True])
def test_negatives_leave_out_the_training_items_and_nothing_else(dataset, prefixes):
    split = LeaveOneOut()(dataset)
    sampler = NegativeSampler(split.train, ITEMS, 6, shared=False, power=0.0, seed=1)
    loader = TrainLoader(split.train, 16, 5, 1, sampler, prefixes)
    drawn = {}
    for epoch in range(60):
        for batch in loader.epoch(epoch):
            assert batch.negative.shape == (*batch.target.shape, 6)
            assert torch.equal(batch.negative > 0, (batch.target > 0)[..., None].expand(-1, -1, 6))
            for user, negative in zip(batch.user.tolist(), batch.negative, strict=True):
                drawn.setdefault(user, []).append(negative[negative > 0])
    for user, parts in drawn.items():
        items = torch.cat(parts).numpy()
        allowed = sorted(set(range(1, ITEMS + 1)) - set(row_of(split.train, user)))
        assert sorted(set(items)) == allowed
        assert scipy.stats.chisquare([(items == item).sum() for item in allowed]).pvalue > 1e-5
    # leaving validation and test items out would tell them
    for part in (split.valid, split.test):
        held_out = zip(part.user.tolist(), part.target.tolist(), strict=True)
        met = sum(target in torch.cat(drawn[user]) for user, target in held_out if user in drawn)
        assert met > 20


def test_a_user_who_has_almost_everything(sequences_of):
    train = sequences_of([[1, 2, 3, 5], [1, 1, 1, 2, 3]])
    sampler = NegativeSampler(train, 5, 50, shared=False, power=0.0, seed=1)
    negative = sampler.draw(np.array([1, 0]), np.array([[True], [True]]), 0, 0)
    assert set(negative[0].ravel()) == {4, 5}
    assert set(negative[1].ravel()) == {4}


def test_a_user_who_has_everything_is_an_error(sequences_of):
    train = sequences_of([[1, 2], [2, 1, 3, 2]])
    with pytest.raises(UserError, match=r"every item of the catalogue .* use loss=cross_entropy"):
        NegativeSampler(train, 3, 1, shared=False, power=0.0, seed=1)
    NegativeSampler(train, 3, 1, shared=True, power=0.0, seed=1)
    NegativeSampler(train, 4, 1, shared=False, power=0.0, seed=1)


def test_uniform_shared_negatives_are_distinct(train):
    sampler = NegativeSampler(train, ITEMS, 10, shared=True, power=0.0, seed=1)
    everyone, slots = np.arange(4), np.ones((4, 2), bool)
    drawn = [sampler.draw(everyone, slots, epoch, number) for epoch in range(40) for number in range(10)]
    assert all(len(set(negative)) == len(negative) == 10 for negative in drawn)
    frequency = np.bincount(np.concatenate(drawn), minlength=ITEMS + 1)
    assert frequency[0] == 0
    assert scipy.stats.chisquare(frequency[1:]).pvalue > 1e-4
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[11], sampler.draw(everyone[:1], slots[:1], 1, 1))
    np.testing.assert_allclose(sampler.log_proposal, [-np.inf] + [-np.log(ITEMS)] * ITEMS)
    everything = NegativeSampler(train, ITEMS, 1000, shared=True, power=0.0, seed=1).draw(everyone, slots, 0, 0)
    assert sorted(everything) == list(range(1, ITEMS + 1))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_popular_items_are_drawn_more_often(sequences_of, power):
    train = sequences_of([[1] * 9, [2] * 4 + [4], [6] * 16 + [1] * 7])  # items 3 and 5 never, 7 neither
    weight = np.array([16.0, 4, 0, 1, 0, 16, 0]) ** power
    sampler = NegativeSampler(train, 7, 500, shared=True, power=power, seed=1)
    drawn = np.concatenate([sampler.draw(np.arange(1), np.ones((1, 1), bool), 0, number) for number in range(40)])
    frequency = np.bincount(drawn, minlength=8)
    assert set(np.flatnonzero(frequency)) == {1, 2, 4, 6}
    own = [1, 2, 4, 6]
    expected = weight[[0, 1, 3, 5]] / weight.sum()
    assert scipy.stats.chisquare(frequency[own], expected * len(drawn)).pvalue > 1e-4
    np.testing.assert_allclose(np.exp(sampler.log_proposal)[own], expected)
    assert np.isneginf(sampler.log_proposal[[0, 3, 5, 7]]).all()


@pytest.mark.parametrize("max_len", [3, 50])
def test_batches_of_the_evaluation(dataset, max_len):
    clean = LeaveOneOut()(dataset).test
    noisy = clean.inputs.take(np.arange(len(clean.user))[::-1])  # inputs may be other than the history
    part = EvalSplit(clean.user, clean.target, noisy, clean.history)
    loader = EvalLoader(part, 7, max_len)
    met, widths = [], []
    for rows, batch in loader:
        assert batch.negative is None
        assert (batch.seq > 0).any(0).all()
        widths.append(batch.seq.shape[1])
        seen = [[] for _ in rows]
        for row, item in zip(batch.seen[0].tolist(), batch.seen[1].tolist(), strict=True):
            seen[row].append(item)
        for place, row in enumerate(rows):
            inputs = row_of(noisy, row)[-max_len:]
            width = batch.seq.shape[1]
            assert batch.user[place] == clean.user[row]
            assert batch.seq[place].tolist() == [0] * (width - len(inputs)) + inputs
            assert batch.target[place].tolist() == [0] * (width - 1) + [clean.target[row]]
            offsets = batch.index[place].tolist()
            stop = noisy.stop[row]
            assert offsets == [-1] * (width - len(inputs)) + list(range(stop - len(inputs), stop))
            assert seen[place] == row_of(clean.history, row)
        met += rows.tolist()
    assert sorted(met) == list(range(len(clean.user)))
    assert widths == sorted(widths)
    assert len(widths) == -(-len(clean.user) // 7)
