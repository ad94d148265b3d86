"""Pictures of what a method does with the items of its histories, by how far back they are."""

import numpy as np
import pytest
import torch
from job_setting import configure

from seqrec.batch import Batch
from seqrec.build import load
from seqrec.commands import train as entry
from seqrec.data.loader import TrainLoader
from seqrec.data.sequences import Sequences
from seqrec.evaluation.position_profile import LEAST, position_profile
from seqrec.methods.asarrec.views import rows_to_augment
from seqrec.runs.directory import read_position_profile

MAX_LEN = 6


class Fake:
    """Gives the item itself per slot, and target times ten plus source per pair of slots."""

    def eval(self):
        return self

    def position_profile(self, batch):
        real = batch.seq > 0
        torch.rand(3)  # a draw that must not be noticed outside
        pair = (batch.seq[:, :, None] * 10 + batch.seq[:, None, :]).double()
        return {
            "item": batch.seq.double().where(real, torch.nan),
            "pair": pair.where(real[:, :, None] & real[:, None, :], torch.nan),
        }


def training_part(users, seed=0):
    """Training parts of 2 to 9 items."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 10, users)
    stop = lengths.cumsum()
    return Sequences(generator.integers(1, 9, stop[-1]).astype(np.int32), stop - lengths, stop)


def test_means_by_place_are_those_of_a_loop_over_histories():
    train = training_part(300)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    found = position_profile(Fake(), train, MAX_LEN, 64, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    place, pair = ([[] for _ in range(MAX_LEN)], [[[] for _ in range(MAX_LEN)] for _ in range(MAX_LEN)])
    for start, stop in zip(train.start, train.stop, strict=True):
        newest_first = train.items[start : stop - 1][-MAX_LEN:][::-1].tolist()
        for a, target in enumerate(newest_first):
            place[a].append(target)
            for b, source in enumerate(newest_first):
                pair[a][b].append(target * 10 + source)
    assert found["item"] == pytest.approx([np.mean(values) for values in place])
    for a in range(MAX_LEN):
        assert found["pair"][a] == pytest.approx([np.mean(values) for values in pair[a]])


def test_places_that_few_histories_reach_have_no_mean():
    items, lengths = np.arange(1, 1 + 30 * 3 + 19 * 2, dtype=np.int32), np.array([3] * 30 + [5] * 19)
    train = Sequences(np.resize(items, lengths.sum()), lengths.cumsum() - lengths, lengths.cumsum())
    found = position_profile(Fake(), train, MAX_LEN, 64, torch.device("cpu"))
    assert LEAST == 20
    assert np.isfinite(found["item"]).tolist() == [True, True, False, False, False, False]
    assert np.isfinite(found["pair"]).sum() == 4


def test_a_sample_of_a_large_training_part_is_taken():
    train, sizes = training_part(3000), []

    class Counting(Fake):
        def position_profile(self, batch):
            sizes.append(len(batch.user))
            return {}

    assert position_profile(Counting(), train, MAX_LEN, 300, torch.device("cpu")) == {}
    assert sizes == [300] * 7  # the first number of batches that holds 2,048


SMALL = (
    *("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8", "trainer.max_epochs=1"),
    *("backbone.layers=1", "trainer.batch_size=32", "trainer.threads=1", "trainer.progress=false"),
)
RUNS = {
    "autosam": ["method=autosam", "loss=sampled_softmax"],
    "asarrec": ["method=asarrec", "method.warmup_epochs=0", "method.stay=.4"],
    "cat": ["method=cat", "method.stage2_epochs=1"],
    "plain": ["method=plain"],
    "popularity": ["method=popularity", "backbone=none", "loss=none"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of finished runs by method."""
    folders = {}
    for name, overrides in RUNS.items():
        small = [key for key in SMALL if name != "popularity" or not key.startswith("backbone.")]
        folders[name] = tmp_path_factory.mktemp("runs") / name
        entry.job(configure(*overrides, *small), folders[name])
    return folders


def batch_of(experiment):
    return next(iter(TrainLoader(experiment.split.train, 64, experiment.config.max_len, seed=3).epoch(0)))


def test_only_methods_that_do_something_with_items_leave_a_profile(runs):
    names = {}
    for method, folder in runs.items():
        path = folder / "position_profile.npz"
        names[method] = set(np.load(path)) if path.exists() else None
    assert names == {
        "autosam": {"keep probability"},
        "asarrec": {"dropped", "inserted", "matrix"},
        "cat": {"weight"},
        "plain": None,
        "popularity": None,
    }


def test_a_profile_is_read_under_its_first_name_too(runs):
    path = runs["cat"] / "position_profile.npz"
    found = read_position_profile(runs["cat"])
    old = path.rename(path.with_name("portrait.npz"))
    again = read_position_profile(runs["cat"])
    old.rename(path)
    np.testing.assert_array_equal(again["weight"], found["weight"])
    assert read_position_profile(runs["plain"]) == {}


def test_autosam_shows_its_keep_probabilities_and_cat_its_weights(runs):
    for name, key in (("autosam", "keep probability"), ("cat", "weight")):
        experiment = load(runs[name])
        method, batch = experiment.method.eval(), batch_of(experiment)
        expected = method.probability(batch.seq) if name == "autosam" else method.slot_weights(batch)
        shown, real = method.position_profile(batch)[key], batch.seq > 0
        assert torch.equal(shown[real], expected[real])
        assert shown[~real].isnan().all()


def test_a_cat_without_weights_shows_nothing(runs):
    method = load(runs["cat"]).method
    method.lambda1 = 0
    assert method.position_profile(Batch(*[torch.ones(1, 2, dtype=torch.long)] * 4)) == {}
    method.lambda1, method.weights = 1, "none"
    assert method.position_profile(Batch(*[torch.ones(1, 2, dtype=torch.long)] * 4)) == {}


def test_asarrec_shows_what_its_views_do(runs):
    experiment = load(runs["asarrec"])
    method, batch = experiment.method.eval(), batch_of(experiment)
    torch.manual_seed(1)
    shown = method.position_profile(batch)
    assert not method.augmenter.training
    torch.manual_seed(1)
    kept = method.keep_probability(batch, draws=8)
    rows, first = rows_to_augment(batch, 3), method.candidates.count
    real = batch.seq[rows] > 0
    assert torch.allclose(shown["dropped"][real], 1 - kept[rows][real], atol=1e-6)
    extended = method.extended(batch)
    method.augmenter.train()
    torch.manual_seed(1)
    moves, inserted = torch.zeros_like(shown["matrix"]), torch.zeros_like(shown["inserted"])
    for _ in range(8):
        source = method.hard_views(extended, method.effects(extended)).source
        for row, view, slot in np.ndindex(*source.shape):
            came = int(source[row, view, slot])
            if slot >= first and came >= 0:
                if extended.original[row, came]:
                    moves[row, slot - first, came - first] += 1 / 16
                else:
                    inserted[row, slot - first] += 1 / 16
    assert torch.allclose(shown["inserted"][real], inserted[real], atol=1e-6)
    pair = real[:, :, None] & real[:, None, :]
    assert torch.allclose(shown["matrix"][pair], moves[pair], atol=1e-6)
    assert moves.diagonal(dim1=1, dim2=2).sum() < moves.sum()  # something moved, so a transposed matrix would show
    assert inserted.sum() > 0
    for values, mask in ((shown["dropped"], real), (shown["inserted"], real), (shown["matrix"], pair)):
        assert values[~mask].isnan().all()
