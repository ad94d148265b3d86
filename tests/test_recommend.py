"""Top lists of users: new items, best first, under the ids of the raw data."""

import numpy as np
import pytest
import torch

from seqrec.evaluation.recommend import recommend
from seqrec.methods.base import Untrained
from seqrec.utils.errors import UserError

CPU = torch.device("cpu")


class Largest(Untrained):
    """Scores an item by its number, more after a history that ends in it."""

    def score(self, batch):
        scores = torch.arange(self.num_items + 1.0).repeat(len(batch.seq), 1)
        return scores + 100 * torch.nn.functional.one_hot(batch.seq[:, -1], self.num_items + 1)


@pytest.fixture
def method(dataset):
    return Largest(dataset.num_items, 4)


def test_lists_hold_new_items_alone_best_first(dataset, method):
    # user 0 has 1 to 5, user 3 all but 4, 5 and 6; ids of items are ten times their number
    assert recommend(method, dataset, ["103", "100"], 3, CPU) == [[60, 50, 40], [90, 80, 70]]


def test_a_user_with_few_new_items_gets_these(dataset, method):
    assert recommend(method, dataset, ["103"], 20, CPU) == [[60, 50, 40]]


def test_lists_do_not_depend_on_who_else_asks(dataset, method):
    users = [str(user) for user in dataset.user_ids]
    together = recommend(method, dataset, users, 2, CPU)
    order = np.random.default_rng(1).permutation(len(users))
    assert recommend(method, dataset, [users[user] for user in order], 2, CPU) == [together[user] for user in order]


def test_an_unknown_user_is_named(dataset, method):
    with pytest.raises(UserError, match=r"user 7 is not in 'tiny' \(its ids look like 100\)"):
        recommend(method, dataset, ["100", "7"], 2, CPU)
