"""One table of odd inputs that are fine, and what is warned of instead of refused."""

import json
import time

import numpy as np
import pytest
from bad_data_files import TABLE
from job_setting import configure
from odd_data_files import FILES
from raw_setting import load

from seqrec.commands import train
from seqrec.data import delimited


def histories(dataset):
    """Raw user id -> list of raw item ids."""
    parts = np.split(dataset.item_ids[dataset.items], dataset.offsets[1:-1])
    return {user: part.tolist() for user, part in zip(dataset.user_ids.tolist(), parts, strict=True)}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_looks_odd_is_read(case, tmp_path):
    content, options, expected = FILES[case]
    dataset = load(tmp_path, content, **options)
    assert histories(dataset) == expected
    assert dataset.warnings == ()


def test_quoted_fields_do_not_take_the_slow_way(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "check_lines", None)
    content = b'uid,title,iid\na,"x, ""y"",\nz",b\na,w,c\n'
    assert histories(load(tmp_path, content, **TABLE)) == {"a": ["b", "c"]}


def test_a_gap_of_ids_costs_nothing(tmp_path):
    began = time.monotonic()
    dataset = load(tmp_path, b"1 5 999999999999999999 10000000\n900000000000 5\n")
    assert time.monotonic() - began < 1
    assert dataset.item_ids.tolist() == [0, 5, 10_000_000, 999_999_999_999_999_999]
    assert dataset.items.tolist() == [1, 3, 2, 1]
    assert dataset.user_ids.tolist() == [1, 900_000_000_000]


def test_wrong_checksum_and_counts_are_warnings(tmp_path):
    dataset = load(tmp_path, b"1 2 3\n", sha256="0" * 64, users=1, items=3, interactions=2)
    assert dataset.warnings == (
        f"dataset=own: {tmp_path}/raw has items 2, expected 3",
        f"dataset=own: {tmp_path}/raw has sha256 {dataset.sha256}, expected {'0' * 64}",
    )


def test_counts_are_those_before_filters(tmp_path):
    content = b"1 2 3\n2 2 3\n3 4\n"
    dataset = load(tmp_path, content, users=3, items=3, interactions=5, k_core=2)
    assert histories(dataset) == {1: [2, 3], 2: [2, 3]}
    assert dataset.warnings == ()


def events(users, items, extra=()):
    """Return lines of user,item,time in which all users have five events."""
    lines = [f"u{user},i{(user + 3 * event) % items},{event}" for user in range(users) for event in range(5)]
    return "\n".join(["user,item,time", *lines, *extra])


# name: (content of the file, what is set beside it); each run ends with metrics between 0 and 1
RUNS = {
    "users too short to be evaluated": (events(12, 20, ["one,i1,1", "two,i1,1", "two,i2,1"]), []),
    "one user": (events(1, 20), []),
    "every event at the same time": (events(12, 20).replace(",3\n", ",0\n"), []),
    "every line twice": (events(12, 20, events(12, 20).split("\n")[1:]), []),
    "unicode": (events(12, 20).replace("u1", "Åsa ☕").replace("i1", "茶"), ["dataset.name='茶 ☕'"]),
    "histories longer than max_len": (events(12, 20), ["max_len=1"]),
    "more users than a batch, and fewer": (events(12, 20), ["trainer.batch_size=5"]),
    "a batch beyond all users": (events(12, 20), ["trainer.batch_size=100000"]),
    "the smallest model": (events(12, 20), ["dim=1", "backbone.heads=1", "backbone.layers=1"]),
    "all items as the cutoff": (events(12, 20), ["eval.cutoffs=[20]", "trainer.monitor=NDCG@20"]),
    "one epoch without patience": (events(12, 20), ["trainer.patience=1", "trainer.eval_every=7"]),
    "noise everywhere": (events(12, 20), ["noise=insert", "noise.ratio=1"]),
    "no noise at all": (events(12, 20), ["noise=insert", "noise.ratio=0"]),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_run_on_odd_data_ends(case, tmp_path):
    content, given = RUNS[case]
    (tmp_path / "own.csv").write_text(content)
    small = ["dim=8", "eval.cutoffs=[5]", "trainer.monitor=NDCG@5", "trainer.max_epochs=1", "trainer.threads=1"]
    columns = [f"dataset.{name}_column={name}" for name in ("user", "item", "time")]
    own = ["dataset=file", f"dataset.path={tmp_path / 'own.csv'}", *columns, f"cache_dir={tmp_path / 'cache'}"]
    train.job(configure(*own, *small, "trainer.progress=false", *given), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert all(0 <= value <= 1 for part in ("valid", "test") for value in metrics[part].values())
