"""Noise is part of a result's identity: the noisy histories of every operator and source are pinned."""

import hashlib

import numpy as np
import pytest

from seqrec.data.sequences import ranges
from seqrec.noise.foreign_items import SOURCES, ForeignItems
from seqrec.noise.plan import corrupt
from seqrec.noise.registry import NoiseSettings
from seqrec.utils.keyed_random import user_keys

HASHES = {
    "insert": "c95deb98e2b966d7",
    "replace": "77793fb883cb929b",
    "delete": "dfc026f97fb31fc3",
    "swap": "1a758c34a19c0baf",
    "shuffle": "c6fb81b2c90ac0f1",
    "truncate": "c5790b8d0d942c33",
    "burst": "0eb104b6e8a5ac1d",
    "all": "2e342c3f53062f57",
    "insert uniform": "c95deb98e2b966d7",
    "insert popularity": "5279aa9524a1d160",
    "insert cooccurring": "5ba4b892fa10b5d4",
    "insert donor": "c25455d405541fa9",
}


def noisy(sequences_of, operators, source="uniform"):
    generator = np.random.default_rng(5)
    rows = sequences_of([generator.integers(1, 61, length).tolist() for length in generator.integers(3, 30, 80)])
    keys = user_keys(np.arange(1000, 1080))
    foreign = ForeignItems(rows, keys, 60, source, 1.0)
    after = corrupt(rows, keys, NoiseSettings(operators, 0.4), 7, foreign).rows
    items = after.items[ranges(after.start, after.stop)].astype(np.int32)
    return hashlib.sha256(after.lengths.astype(np.int64).tobytes() + items.tobytes()).hexdigest()[:16]


OPERATORS = ["insert", "replace", "delete", "swap", "shuffle", "truncate", "burst"]
CASES = {
    **{name: ([name], "uniform") for name in OPERATORS},
    "all": (OPERATORS, "uniform"),
    **{f"insert {source}": (["insert"], source) for source in SOURCES},
}


@pytest.mark.parametrize("case", CASES)
def test_noise_is_what_it_was(case, sequences_of):
    assert noisy(sequences_of, *CASES[case]) == HASHES[case]
