"""A run whose validation metrics come from a subset of the users."""

import json

import numpy as np
import pytest
from job_setting import SHORT, SMALL, configure

from seqrec import build
from seqrec.commands import evaluate, train
from seqrec.config import config_hash
from seqrec.data.split import LeaveOneOut


def job(folder, *overrides):
    train.job(configure(*overrides), folder)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "manifest")}


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_the_subset_decides_validation_alone_and_is_the_same_for_every_seed(tmp_path, capsys, split):
    base = (*SHORT, f"split={split}", "trainer.max_epochs=1")
    whole, some = job(tmp_path / "all", *base), job(tmp_path / "some", *base, "eval.valid_users=20")
    assert some["manifest"]["protocol"]["valid_users"] == 20
    assert whole["manifest"]["protocol"]["valid_users"] > 20
    assert some["metrics"]["valid"] != whole["metrics"]["valid"]
    assert some["metrics"]["test"] == whole["metrics"]["test"]  # there is one epoch to choose from
    experiment = build.load(tmp_path / "some")
    assert experiment.validate() == some["metrics"]["valid"]
    other = build.build(configure(*base, "eval.valid_users=20", "seed=2"))
    assert np.array_equal(other.split.valid.user, experiment.split.valid.user)
    capsys.readouterr()
    evaluate.main([str(tmp_path / "some"), "--part", "valid"])
    shown = dict(map(str.split, capsys.readouterr().out.splitlines()))
    assert float(shown["NDCG@10"]) == pytest.approx(some["metrics"]["valid"]["NDCG@10"], abs=1e-6)


def test_users_are_drawn_by_their_own_ids(dataset_of):
    rows = [[1 + (user + step) % 9 for step in range(4)] for user in range(60)]
    data, backwards = dataset_of(rows), dataset_of(rows[::-1])
    ids = data.user_ids

    def chosen(dataset, ids, count):
        return set(ids[LeaveOneOut()(dataset).with_valid_users(count, ids).valid.user].tolist())

    some, more = (chosen(data, ids, count) for count in (15, 30))
    assert (len(some), len(more)) == (15, 30)
    assert some < more  # nested
    assert chosen(backwards, ids[::-1], 15) == some  # whatever the order of users
    assert some != set(ids[:15].tolist())
    assert chosen(data, ids, 60) == chosen(data, ids, 61) == set(ids.tolist())


def test_fusion_fits_on_the_subset(tmp_path):
    found = job(tmp_path, *SMALL[:3], "method=counts", "fusion=counts", "eval.valid_users=40")
    assert found["manifest"]["protocol"]["valid_users"] == 40
    whole = job(tmp_path / "all", *SMALL[:3], "method=counts", "fusion=counts")
    assert found["metrics"]["fusion"] != whole["metrics"]["fusion"]


def test_the_key_is_in_the_hash_where_it_is_used():
    assert config_hash(configure("eval.valid_users=20000")) != config_hash(configure())
