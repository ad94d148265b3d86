"""CoSeRec against its page: which similar items it takes and when, the loss, exact resume."""

import functools
import math
from collections import defaultdict

import pytest
import torch
from contract_setting import Contract
from contrast_setting import (
    ITEMS,
    ROWS,
    Setting,
    configure,
    contrast_is_alive,
    literal_contrast,
    literal_next_item,
    train_on_synthetic,
)

from seqrec.augment import OPERATORS


@pytest.fixture
def setting(sequences_of):
    return functools.partial(Setting, sequences_of, "coserec")


def literal_counted(rows):
    """Return {item: (nearest item, normalised score)} by ItemCF-IUF on the inputs of training."""
    together, held = defaultdict(float), defaultdict(int)
    for row in rows:
        inputs = set(row[:-1])
        for i in inputs:
            held[i] += 1
            for j in inputs - {i}:
                together[i, j] += 1 / math.log(1 + len(inputs))
    sim = {(i, j): value / math.sqrt(held[i] * held[j]) for (i, j), value in together.items()}
    least, largest = min(sim.values()), max(sim.values())
    nearest = {}
    for i in held:
        own = [(round(value, 6), -j) for (a, j), value in sim.items() if a == i]
        if own:
            value, j = max(own)
            nearest[i] = (-j, (value - least) / (largest - least))
    return nearest


def literal_embedded(table):
    """Return {item: (nearest item, normalised score)} by the dot product of embeddings."""
    products = {
        (i, j): sum(x * y for x, y in zip(table[i], table[j], strict=True))
        for i in range(1, ITEMS + 1)
        for j in range(1, ITEMS + 1)
    }
    least, largest = min(products.values()), max(products.values())
    nearest = {}
    for i in range(1, ITEMS + 1):
        value, j = max((products[i, j], -j) for j in range(1, ITEMS + 1) if j != i)
        nearest[i] = (-j, (value - least) / (largest - least))
    return nearest


def test_similarity_is_counted_on_training_inputs(setting):
    method = setting().method
    expected = literal_counted(ROWS)
    assert expected != literal_counted([[*row, 0] for row in ROWS])  # the last target of a row would change it
    for item, (nearest, score) in expected.items():
        assert method.similar[item] == nearest
        assert method.counted_score[item].item() == pytest.approx(score, abs=1e-5)
    unseen = set(range(1, ITEMS + 1)) - set(expected)
    assert unseen
    for item in unseen:
        assert method.counted_score[item] == 0
        assert 1 <= method.similar[item] <= ITEMS
        assert method.similar[item] != item


def test_hybrid_takes_the_nearer_of_both_from_its_epoch_on_and_is_refreshed(setting):
    method = setting("method.hybrid_from=3").method
    counted = method.similar.clone()
    method.on_epoch(2)
    assert torch.equal(method.similar, counted)
    alike = 1 + 0.1 * torch.randn(ITEMS, method.items.embedding_dim)  # embeddings win
    peaked = 0.01 * torch.randn(ITEMS, method.items.embedding_dim)  # counts win, all but one product being small
    peaked[0] = 100.0
    for epoch, table in enumerate((alike, peaked, torch.randn(ITEMS, method.items.embedding_dim)), start=3):
        with torch.no_grad():
            method.items.weight[1:] = table
        method.on_epoch(epoch)
        embedded, by_counts = literal_embedded(method.items.weight.tolist()), literal_counted(ROWS)
        for item in range(1, ITEMS + 1):
            count = by_counts.get(item, (int(counted[item]), 0.0))
            expected = count if count[1] >= embedded[item][1] else embedded[item]
            assert method.similar[item] == expected[0]


def test_both_tables_win_somewhere(setting):
    method = setting("method.hybrid_from=0").method
    counted = method.similar.clone()
    method.on_epoch(0)
    same = method.similar == counted
    assert same[1:].any()
    assert not same[1:].all()


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
def test_loss_is_next_item_plus_weight_times_nt_xent(setting, backbone):
    tried = setting("method.weight=.25", backbone=backbone)
    method, batch = tried.method, tried.batch
    views, taken = method.views(batch.seq, method.similar)
    method.views = lambda seq, similar: (views, taken)
    logs = method.losses(batch)
    rows = literal_next_item(method, batch)
    next_item = sum(map(sum, rows)) / sum(map(len, rows))
    anchors = literal_contrast(method, batch, views, taken, "flat")
    assert logs["next_item"].item() == pytest.approx(next_item, rel=1e-4)
    assert logs["contrast"].item() == pytest.approx(sum(anchors) / len(anchors), rel=1e-4)
    assert logs["loss"].item() == pytest.approx(next_item + 0.25 * sum(anchors) / len(anchors), rel=1e-4)


def test_views_hold_the_similar_items_of_the_table(setting):
    tried = setting("method.views.short=[insert]", "method.views.long=[substitute]")
    method, batch = tried.method, tried.batch
    method.similar.copy_(torch.tensor([0, *([ITEMS] * ITEMS)]))  # an item that no row has
    views, _ = method.views(batch.seq, method.similar)
    for row, view in zip(batch.seq.repeat(2, 1), views, strict=True):
        items, made = row[row > 0].tolist(), view[view > 0].tolist()
        if len(items) <= 4:
            assert [item for item in made if item != ITEMS] == items
            assert made.count(ITEMS) == max(int(0.4 * len(items)), 1)
            assert made[-1] == items[-1]  # inserted before, never after
        else:
            changed = [new for old, new in zip(items, made, strict=True) if old != new]
            assert changed == [ITEMS] * max(int(0.1 * len(items)), 1)


def test_defaults_are_the_page_s():
    values = configure("method=coserec")["method"]
    views = values["views"]
    assert (values["weight"], values["vector"], values["cosine"], values["temperature"]) == (0.1, "flat", False, 1.0)
    assert values["hybrid_from"] == 161  # the code: epoch > 160, from 0
    assert tuple(views[name] for name in OPERATORS) == (0.2, 0.7, 0.2, 0.1, 0.4)
    assert (views["threshold"], set(views["long"]), set(views["short"])) == (
        4,
        set(OPERATORS),
        {"substitute", "insert", "mask"},
    )
    assert (views["distinct"], views["released"]) == (False, True)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "sampled_softmax", "gbce", "bpr"])
def test_a_step_moves_all_parameters_and_no_table(setting, backbone, loss):
    tried = setting(backbone=backbone, loss=loss, dropout=True)
    method, batch = tried.method, tried.batch
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    logs = method.losses(batch)
    for term in ("next_item", "contrast"):
        gradients = torch.autograd.grad(logs[term], list(method.parameters()), retain_graph=True)
        assert all(gradient.any() for gradient in gradients)
    logs["loss"].backward()
    optimizer.step()
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name, _ in method.named_parameters()}
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())
    assert not method.items.weight[0].any()


def test_resume_within_an_epoch_keeps_the_table_of_the_epoch_s_start(setting):
    first = setting("method.hybrid_from=0", dropout=True)
    method = first.method
    torch.manual_seed(5)
    for begin in (True, False):  # steps of epochs before, and of this one
        with torch.no_grad():
            method.items.weight[1:] += torch.randn(ITEMS, method.items.embedding_dim)
        if begin:
            method.on_epoch(0)
    again = setting("method.hybrid_from=0", dropout=True).method
    again.on_epoch(0)  # as the trainer does before it loads
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.similar, method.similar)
    fresh = method.similar.clone()
    method.on_epoch(0)
    assert not torch.equal(method.similar, fresh)  # a refresh would have changed it
    method.similar.copy_(fresh)
    losses = []
    for tried in (method, again):
        torch.manual_seed(7)
        losses.append(tried.losses(first.batch))
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_alive_views_of_a_sequence_find_each_other(noise):
    method, logs = train_on_synthetic(noise, 12, "method=coserec", "method.hybrid_from=6", "loss=bce")
    late = logs[-10:]
    accuracy = sum(log["contrast_accuracy"] for log in late) / len(late)
    chance = 1 / 127  # 64 rows, 2 views
    assert accuracy > 20 * chance
    assert sum(log["next_item"] for log in late) < sum(log["next_item"] for log in logs[:10])
    assert sum(log["contrast"] for log in late) < 0.8 * sum(log["contrast"] for log in logs[:10])
    assert not torch.equal(method.similar, method.counted_item)


# --- what tests/contract asks


CONTRACT = Contract(contrast_is_alive)
