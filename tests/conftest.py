"""Small things that many tests need."""

import importlib
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import numpy as np
import pytest
import torch

from seqrec.batch import Batch
from seqrec.data.dataset import Dataset
from seqrec.data.sequences import Sequences
from seqrec.data.split import LeaveOneOut

torch.set_num_threads(1)  # two test processes with many threads each slow one another down

# User 2 is too short to have a target, user 4 meets items again, item 9 is in test targets alone.
TINY = [[1, 2, 3, 4, 5], [2, 3, 1], [4, 6], [7, 1, 2, 8, 3, 9], [5, 6, 5, 6, 5], [8, 7, 6, 9]]


def _flat(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.array([item for row in rows for item in row], np.int32), offsets


@pytest.fixture(autouse=True)
def logger_as_it_was():
    """Undo what a command that runs within a test does to the logger: another test would find its records twice."""
    log = logging.getLogger("seqrec")
    before = log.handlers, log.level, log.propagate
    yield
    log.handlers, log.level, log.propagate = before


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory in which no attack may leave a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    yield tmp_path
    assert not list(tmp_path.rglob("ran"))


@pytest.fixture(scope="session")
def sequences_of():
    """Function from a list of lists of items to Sequences."""

    def make(rows) -> Sequences:
        items, offsets = _flat(rows)
        return Sequences(items, offsets[:-1], offsets[1:])

    return make


@pytest.fixture(scope="session")
def dataset_of():
    """Function from a list of lists of items (and of times) to a Dataset."""

    def make(rows, times=None, num_items=None) -> Dataset:
        items, offsets = _flat(rows)
        num_items = int(items.max()) if num_items is None else num_items
        return Dataset(
            name="tiny",
            items=items,
            offsets=offsets,
            user_ids=np.arange(100, 100 + len(rows)),
            item_ids=np.arange(num_items + 1) * 10,
            times=None if times is None else np.array([time for row in times for time in row], float),
        )

    return make


@pytest.fixture
def script(monkeypatch):
    """Function that imports a module of scripts/."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module


@pytest.fixture
def dataset(dataset_of):
    """Six users, nine items, no times."""
    return dataset_of(TINY)


@pytest.fixture
def split(dataset):
    """Leave-one-out split of `dataset`."""
    return LeaveOneOut()(dataset)


@pytest.fixture
def batch():
    """Three rows of four slots, left-padded; the second row has two supervised slots."""
    return Batch(
        user=torch.tensor([3, 0, 5]),
        seq=torch.tensor([[7, 1, 2, 8], [0, 0, 1, 2], [0, 0, 0, 8]]),
        target=torch.tensor([[1, 2, 8, 3], [0, 0, 2, 3], [0, 0, 0, 7]]),
        index=torch.tensor([[10, 11, 12, 13], [-1, -1, 0, 1], [-1, -1, -1, 21]]),
    )
