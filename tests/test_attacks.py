"""Attacked places and the items put there, against loops over users."""

import numpy as np
import pytest
import torch
from job_setting import configure
from omegaconf import OmegaConf
from torch import nn

from seqrec.backbones.dropout import Dropout
from seqrec.data.sequences import Sequences
from seqrec.data.split import EvalSplit
from seqrec.evaluation import attacks
from seqrec.evaluation.attacks import check, gradient_items, joined, newest, random_items, replaced, slots
from seqrec.losses import CrossEntropy
from seqrec.methods.base import Method, ModelSpec
from seqrec.noise import training as training_noise
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.registry import NUMBERS
from seqrec.utils.instantiate import make
from seqrec.utils.keyed_random import user_keys

CPU = torch.device("cpu")
ITEMS = 9
ROWS = [[1, 2, 3, 4, 5], [6], [7, 8], [2, 4, 6, 8], [3, 1, 9, 2, 5, 4]]


@pytest.fixture
def rows(sequences_of):
    return sequences_of(ROWS)


def lists_of(rows: Sequences):
    return [rows.items[a:b].tolist() for a, b in zip(rows.start, rows.stop, strict=True)]


def hit(rows, position, count, keys=None, seed=0):
    """The attacked slots of each row."""
    keys = user_keys(np.arange(len(rows))) if keys is None else keys
    row, offset = slots(rows, position, count, keys, seed)
    assert (np.diff(row) >= 0).all()
    return [(offset[row == r] - rows.start[r]).tolist() for r in range(len(rows))]


@pytest.mark.parametrize(
    ("position", "count", "expected"),
    [
        ("first", 1, [[0], [0], [0], [0], [0]]),
        ("first", 3, [[0, 1, 2], [0], [0, 1], [0, 1, 2], [0, 1, 2]]),
        ("last", 1, [[4], [0], [1], [3], [5]]),
        ("last", 3, [[2, 3, 4], [0], [0, 1], [1, 2, 3], [3, 4, 5]]),
        ("middle", 1, [[2], [0], [0], [1], [2]]),
        ("middle", 2, [[1, 2], [0], [0, 1], [1, 2], [2, 3]]),
        ("-1", 1, [[4], [0], [1], [3], [5]]),
        ("-2", 1, [[3], [], [0], [2], [4]]),
        ("-5", 1, [[0], [], [], [], [1]]),
        ("-5", 2, [[0], [], [], [], [0, 1]]),
        ("-2", 3, [[1, 2, 3], [], [0], [0, 1, 2], [2, 3, 4]]),
        ("-10", 1, [[], [], [], [], []]),
    ],
)
def test_slots_by_hand(rows, position, count, expected):
    assert hit(rows, position, count) == expected


def test_the_last_items_are_those_at_offset_one(rows):
    assert hit(rows, "last", 2) == hit(rows, "-1", 2)


def test_random_slots_are_distinct_evenly_spread_and_the_users_own(sequences_of):
    rows = sequences_of([[1, 2, 3, 4]] * 2000 + [[5]])
    keys = user_keys(np.arange(len(rows)))
    chosen = hit(rows, "random", 2, keys)
    assert chosen[-1] == [0]
    assert all(len(set(places)) == 2 for places in chosen[:-1])
    share = np.bincount(np.concatenate(chosen[:-1])) / 4000
    assert share == pytest.approx([0.25] * 4, abs=0.03)
    assert chosen != hit(rows, "random", 2, keys, seed=1)
    order = np.random.default_rng(0).permutation(len(rows))
    permuted = hit(rows.take(order), "random", 2, keys[order])
    assert [sorted(chosen[r]) for r in order] == [sorted(places) for places in permuted]


def test_positions_that_there_are():
    check(["first", "middle", "last", "random", "-1", "-10"])


def test_newest_is_what_a_method_sees_and_joined_puts_rows_side_by_side(rows):
    seen = newest(rows.take(np.array([4, 0, 1])), 3)
    assert lists_of(seen) == [[2, 5, 4], [3, 4, 5], [6]]
    assert len(seen.items) == 7
    assert lists_of(joined(seen, rows.take(np.array([1, 2, 3])))) == [[2, 5, 4, 6], [3, 4, 5, 7, 8], [6, 2, 4, 6, 8]]


def test_replaced_changes_a_copy(rows):
    after = replaced(rows, np.array([0, 7]), np.array([9, 1]))
    assert lists_of(after) == [[9, 2, 3, 4, 5], [6], [7, 1], *ROWS[3:]]
    assert lists_of(rows) == ROWS


@pytest.fixture
def part(rows):
    """EvalSplit whose history has items that the input has not."""
    history = joined(rows, Sequences(np.array([9, 9, 9, 9, 6], np.int32), np.arange(5), np.arange(1, 6)))
    return EvalSplit(np.arange(5), np.array([7, 1, 3, 5, 8]), rows, history)


def test_random_items_are_foreign_to_the_history_and_even(part, rows):
    foreign = ForeignItems(rows, user_keys(np.arange(len(rows))), ITEMS, "uniform", 0.0)
    keys = user_keys(np.arange(5))
    row, offset = slots(rows, "last", 1, keys, 0)
    drawn = np.stack([random_items(part, row, offset, keys, seed, foreign) for seed in range(3000)])
    for r, history in enumerate(lists_of(part.history)):
        free = sorted(set(range(1, ITEMS + 1)) - set(history))
        share = np.bincount(drawn[:, r], minlength=ITEMS + 1) / 3000
        assert np.flatnonzero(share).tolist() == free
        assert share[free] == pytest.approx([1 / len(free)] * len(free), abs=0.04)


class Sum(nn.Module):
    """Hidden state: the sum of the embeddings of the input; scores are its products with the item table."""

    def __init__(self, table):
        super().__init__()
        self.items = nn.Embedding.from_pretrained(torch.as_tensor(table, dtype=torch.float32), freeze=False)

    def encode(self, seq, x=None, positions=None, newest=False):
        x = self.items(seq) if x is None else x
        return (x * (seq > 0)[..., None]).cumsum(1)

    def losses_of(self, histories, target):
        """-log softmax of the target after each history of one length."""
        hidden = self.encode(torch.as_tensor(histories))[:, -1]
        return CrossEntropy(8).per_slot(hidden, torch.full((len(histories),), int(target)), self.items.weight)


@pytest.fixture
def table():
    values = torch.randn(ITEMS + 1, 3, generator=torch.Generator().manual_seed(4))
    values[0] = 0
    return values


def test_the_items_put_at_several_places_of_a_row_are_drawn_apart(sequences_of):
    rows = sequences_of([[1, 2]] * 500)
    part = EvalSplit(np.arange(500), np.full(500, 3), rows, rows)
    keys = user_keys(part.user)
    row, offset = slots(rows, "last", 2, keys, 0)
    train = sequences_of([[1, 2, 3, 4, 5, 6, 7, 8, 9]] * 500)
    item = random_items(part, row, offset, keys, 0, ForeignItems(train, keys, ITEMS, "uniform", 0.0)).reshape(-1, 2)
    assert np.mean(item[:, 0] == item[:, 1]) == pytest.approx(1 / 7, abs=0.05)


def test_what_numbers_are_drawn_for_has_words_of_its_own():
    second = [*NUMBERS, training_noise.USERS, attacks.SLOT, attacks.ITEM]
    assert len(set(second)) == len(second)


def free_items(part, row):
    return sorted(set(range(1, ITEMS + 1)) - set(lists_of(part.history)[row]))


@pytest.mark.parametrize("position", ["first", "last", "-2"])
def test_the_gradient_finds_the_exactly_worst_item_where_the_loss_is_monotone(part, rows, position):
    """One-dimensional embeddings: with the target at an end of the scale the loss rises all the way to the other end."""
    table = torch.tensor([[0.0], [-0.9], [0.3], [0.8], [-0.2], [1.3], [0.1], [-1.1], [1.7], [0.5]])
    method = Sum(table)
    for end in (7, 8):
        part = EvalSplit(part.user, np.full(5, end), rows, part.history)
        row, offset = slots(rows, position, 1, user_keys(part.user), 0)
        chosen = gradient_items(method, part, offset, CPU)
        for r, at, item in zip(row, offset - rows.start[row], chosen, strict=True):
            choices = free_items(part, r)
            histories = [[*ROWS[r][:at], j, *ROWS[r][at + 1 :]] for j in choices]
            losses = method.losses_of(histories, end)
            assert item == choices[int(losses.argmax())]


def test_the_gradient_is_that_of_the_loss_at_the_clean_input(part, rows, table):
    """g = sum over items of their probability times embedding, less the target's embedding."""
    method = Sum(table)
    row, offset = slots(rows, "last", 2, user_keys(part.user), 0)
    chosen = gradient_items(method, part, offset, CPU)
    for r, item in zip(row, chosen, strict=True):
        hidden = table[ROWS[r]].sum(0)
        probability = torch.cat([torch.zeros(1), (table[1:] @ hidden).softmax(0)])
        gradient = probability @ table - table[part.target[r]]
        choices = free_items(part, r)
        assert item == max(choices, key=lambda j: float(gradient @ table[j]))


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
def test_every_backbone_gives_the_gradient_row_by_row(part, rows, backbone):
    values = OmegaConf.to_container(configure(f"backbone={backbone}"), resolve=True)
    torch.manual_seed(0)
    method = Method(ModelSpec(make(values["backbone"]), CrossEntropy(8), ITEMS, dim=values["dim"], max_len=7))
    with torch.no_grad():
        method.items.weight[1:] *= 20
    row, offset = slots(rows, "random", 2, user_keys(part.user), 3)
    chosen = gradient_items(method, part, offset, CPU)
    assert method.training
    method.eval()
    table = method.items.weight.detach()
    for r, at, item in zip(row, offset - rows.start[row], chosen, strict=True):
        seq = torch.tensor([ROWS[r]])
        x = table[seq].requires_grad_()
        logits = method.encode(seq, x=x)[0, -1] @ table[1:].T
        logits.log_softmax(0)[part.target[r] - 1].neg().backward()
        gain = table @ x.grad[0, at]
        assert item in free_items(part, r)
        assert gain[item] == pytest.approx(float(gain[free_items(part, r)].max()), rel=1e-4)


def test_a_recurrent_layer_is_differentiated_in_the_only_mode_that_cudnn_can(part, rows):
    values = OmegaConf.to_container(configure("backbone=gru4rec"), resolve=True)
    method = Method(ModelSpec(make(values["backbone"]), CrossEntropy(8), ITEMS, dim=values["dim"], max_len=7)).eval()
    modes = {}

    def look(module, _):
        modes[type(module)] = module.training

    for module in method.modules():
        if isinstance(module, nn.GRU | Dropout):
            module.register_forward_pre_hook(look)
    gradient_items(method, part, slots(rows, "last", 1, user_keys(part.user), 0)[1], CPU)
    assert modes == {nn.GRU: True, Dropout: False}
    assert not method.training
    assert all(parameter.requires_grad for parameter in method.parameters())
