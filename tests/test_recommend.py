"""Top lists of users and of sequences: new items, best first, under the ids of the raw data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec.commands.recommend import read_sequences
from seqrec.evaluation.recommend import of_sequences, of_users, recommend, scores
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


def top(dataset, method, users, count):
    return recommend(method, dataset, of_users(dataset, users), count, CPU)


def test_lists_hold_new_items_alone_best_first(dataset, method):
    # user 0 has 1 to 5, user 3 all but 4, 5 and 6; ids of items are ten times their number
    assert top(dataset, method, ["103", "100"], 3) == [[60, 50, 40], [90, 80, 70]]


def test_a_user_with_few_new_items_gets_these(dataset, method):
    assert top(dataset, method, ["103"], 20) == [[60, 50, 40]]


def test_a_score_that_is_no_number_is_refused(dataset, method, monkeypatch):
    own = method.score
    monkeypatch.setattr(method, "score", lambda batch: own(batch).index_fill(1, torch.tensor([7]), torch.nan))
    with pytest.raises(UserError, match="not a finite number"):
        top(dataset, method, ["100"], 3)


def test_lists_do_not_depend_on_the_other_users(dataset, method):
    users = [str(user) for user in dataset.user_ids]
    together = top(dataset, method, users, 2)
    order = np.random.default_rng(1).permutation(len(users))
    assert top(dataset, method, [users[user] for user in order], 2) == [together[user] for user in order]


def test_an_unknown_user_is_named(dataset, method):
    with pytest.raises(UserError, match=r"user 7 is not in 'tiny' \(its ids look like 100\)"):
        of_users(dataset, ["100", "7"])


def slow_scores(method, dataset, sequence, mask_history):
    """Score one sequence of raw ids by itself, item by item."""
    known = [dataset.item_ids.tolist().index(int(item)) for item in sequence if int(item) in dataset.item_ids[1:]]
    row = [0.0] + [float(item) for item in range(1, dataset.num_items + 1)]
    row[known[-1]] += 100
    return [-np.inf if item == 0 or (mask_history and item in known) else value for item, value in enumerate(row)]


def test_a_large_catalogue_is_scored_for_few_users_at_once(dataset, method):
    rows, _ = of_sequences(dataset, [[10]] * 300)

    def chunks(num_items):
        return [len(chosen) for chosen, _ in scores(method, rows, num_items, CPU)]

    assert chunks(dataset.num_items) == [256, 44]
    assert chunks(100_000) == [39] * 7 + [27]


@pytest.mark.parametrize("mask_history", [True, False])
@pytest.mark.parametrize("kind", [int, str, np.int64])
def test_scores_of_raw_sequences_are_those_of_a_slow_count(dataset, method, kind, mask_history):
    # longer than max_len, a repeat, unknown ids (0 is padding, not an item) at the beginning, in the middle and last
    raw = [[10, 20, 30, 40, 50, 90], [70], [7, 20, 0, 20, 5], [90, 80, 7]]
    rows, unknown = of_sequences(dataset, [[kind(item) for item in sequence] for sequence in raw])
    assert unknown == 4
    found = np.full((len(raw), dataset.num_items + 1), np.nan)
    for chosen, scored in scores(method, rows, dataset.num_items, CPU, mask_history):
        found[chosen] = scored.numpy()
    assert found.tolist() == [slow_scores(method, dataset, sequence, mask_history) for sequence in raw]


def test_a_users_own_history_as_a_sequence_gives_the_users_list(dataset, method):
    history = dataset.item_ids[dataset.items[dataset.offsets[3] : dataset.offsets[4]]].tolist()
    rows, unknown = of_sequences(dataset, [history])
    assert recommend(method, dataset, rows, 3, CPU) == top(dataset, method, ["103"], 3)
    assert unknown == 0


def test_ids_that_are_text_are_found(dataset, method):
    named = replace(dataset, item_ids=np.array(["", *"abcdefghi"]))
    rows, unknown = of_sequences(named, [["a", "zz", "b"], np.array(["i"])])
    assert recommend(method, named, rows, 2, CPU) == [["i", "h"], ["h", "g"]]
    assert unknown == 1


@pytest.mark.parametrize(("sequence", "items"), [([], 0), ([7, 0], 2)])
def test_a_sequence_without_any_known_item_is_named(dataset, sequence, items):
    with pytest.raises(
        UserError, match=rf"sequence 1: none of its {items} items is in 'tiny' \(its ids look like 10\)"
    ):
        of_sequences(dataset, [[10], sequence])
    with pytest.raises(UserError, match="sequence anna: none"):
        of_sequences(dataset, [[10], sequence], ["bob", "anna"])


@pytest.mark.parametrize(
    ("name", "text", "names", "sequences"),
    [
        ("a.csv", '10,20\n"x,1"\n', [1, 2], [["10", "20"], ["x,1"]]),
        ("a.csv", "user,item\nb,10\na,20\nb,30\n", ["b", "a"], [["10", "30"], ["20"]]),
        ("a.csv", "10, 20,30\n", [1], [["10", "20", "30"]]),
        ("a.csv", "user, item\nb, 10\n", ["b"], [["10"]]),
        ("a.csv", "\ufeffuser,item\r\nb,10\r\n", ["b"], [["10"]]),
        ("a.jsonl", '[10, "20"]\n[]\n', [1, 2], [[10, "20"], []]),
    ],
)
def test_files_of_sequences(tmp_path, name, text, names, sequences):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_sequences(tmp_path / name) == (names, sequences)
