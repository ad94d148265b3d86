"""AsarRec's positions, its two players, and which rows they meet."""

import pytest
import torch
from asarrec_setting import MAX_LEN, K, Steps, batch_of, build, histories, names_of

from seqrec.methods.asarrec.matrices import draw
from seqrec.methods.base import Method


@pytest.fixture
def train(sequences_of):
    return histories(sequences_of)


# --- positions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["sasrec", "sasrec-end"])
def test_the_main_task_uses_the_last_rows_of_the_position_table_and_views_the_same_ones(train, backbone):
    method = build(train, backbone)
    batch = batch_of(train, method)
    extended = method.extended(batch)
    views = method.view_positions(extended, None)
    assert torch.equal(views[: len(views) // 2], views[len(views) // 2 :])
    main = method.main_positions(batch.seq > 0)
    for items, original, positions in zip(extended.items, extended.original, views, strict=False):
        history = items[original].tolist()
        row = next(r for r in range(len(main)) if batch.seq[r][batch.seq[r] > 0].tolist() == history)
        assert positions[original].tolist() == main[row][batch.seq[row] > 0].tolist()
        assert positions[original].tolist()[0] == (K if backbone == "sasrec" else K + MAX_LEN - len(history))
        candidates = int(positions[original][0])
        assert positions[items > 0][~original[items > 0]].tolist() == list(range(candidates - K, candidates))
    before = method.score(batch)
    with torch.no_grad():
        method.backbone.position.weight[:K] = 7.0
    assert torch.equal(method.score(batch), before)


# --- who moves what --------------------------------------------------------------------------------------------


def snapshot(method):
    return {name: parameter.detach().clone() for name, parameter in method.named_parameters()}


def moved(method, before):
    return {name for name, parameter in method.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
def test_each_step_moves_its_own_player_only(train, backbone):
    method = build(train, backbone, still=False, lively=False)
    method.on_epoch(99)
    steps = Steps(method, move=0.1)
    moves, grads, modes = [], [], []

    def update(loss, *groups):
        modes.append({type(module).__name__: module.training for module in method.backbone.modules()})
        before = snapshot(method)
        steps(loss, *groups)
        moves.append(moved(method, before))
        grads.append({name for name, parameter in method.named_parameters() if parameter.grad is not None})

    method.optimize(batch_of(train, method), update)
    assert moves[0] == set(names_of(method, "augmenter"))
    assert grads[0] == moves[0], "the augmenter's step left a gradient on the recommender"
    unused = {"backbone.position.weight"} if backbone == "gru4rec" else set()
    assert moves[1] == set(names_of(method, "recommender")) - unused
    assert not any(mode for name, mode in modes[0].items() if name != "GRU"), "dropout in the adversarial signal"
    assert all(modes[1].values())
    assert all(parameter.requires_grad for parameter in method.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in method.parameters())


def test_both_steps_meet_the_same_hard_views_and_the_views_of_a_row_are_drawn_apart(train, monkeypatch):
    method = build(train, "sasrec", "method.gumbel=1")
    method.on_epoch(99)
    met = []
    for name in ("augmenter_losses", "recommender_losses"):
        real = getattr(method, name)
        monkeypatch.setattr(method, name, lambda *given, real=real: met.append(given[-1]) or real(*given))
    method.optimize(batch_of(train, method), Steps(method))
    assert met[0] is met[1]
    with torch.no_grad():
        method.augmenter.query.weight.zero_()  # nothing but the noise tells the views of a row apart
        rows = method.extended(batch_of(train, method)).cut(slice(0, 3))
        soft, _ = draw(method.augmenter, method.seen(rows), rows, method.rules)
    assert (soft[:, 0] - soft[:, 1]).abs().amax((1, 2)).min() > 1e-3


def test_warm_up_is_plain_training(train):
    method = build(train, "sasrec", "method.warmup_epochs=4")
    method.on_epoch(3)
    assert method.patience_from == 4
    batch, steps, before = batch_of(train, method), Steps(method, move=0.1), snapshot(method)
    logs = method.optimize(batch, steps)
    assert set(logs) == {"loss"}
    assert [groups for groups, _, _ in steps.made] == [("recommender",)]
    assert not moved(method, before) & set(names_of(method, "augmenter"))
    method.on_epoch(4)
    assert "augmenter" in method.optimize(batch, steps)


def test_a_frozen_augmenter_makes_views_and_stays(train):
    method = build(train, "sasrec", "method.augmenter_frozen=true")
    method.on_epoch(99)
    assert list(method.param_groups()) == ["recommender"]
    assert not any(parameter.requires_grad for parameter in method.augmenter.parameters())
    steps, before = Steps(method, move=0.1), snapshot(method)
    logs = method.optimize(batch_of(train, method), steps)
    assert [groups for groups, _, _ in steps.made] == [("recommender",)]
    assert moved(method, before) == set(names_of(method, "recommender"))
    assert logs["changed"] > 0.5
    assert "contrast" in logs
    assert "augmenter" not in logs


def test_the_players_have_their_own_optimiser_and_clip(train):
    method = build(train)
    groups = method.param_groups()
    owned = {name: {id(parameter) for parameter in group.parameters} for name, group in groups.items()}
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    assert {names[one] for one in owned["augmenter"]} == set(names_of(method, "augmenter"))
    assert {names[one] for one in owned["recommender"]} == set(names_of(method, "recommender"))
    assert (groups["recommender"].clip, groups["augmenter"].clip) == (5.0, 1.0)
    assert groups["recommender"].optimizer is None
    optimizer = groups["augmenter"].optimizer([torch.nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-3


# --- which rows are augmented ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "shortest", "users"), [([], 3, 8), (["method.shortest=2"], 2, 9), (["method.shortest=1"], 1, 10)]
)
def test_one_row_per_user_that_is_long_enough_is_augmented(train, changes, shortest, users):
    method = build(train, "fmlprec", *changes)
    batch = batch_of(train, method, size=60)
    extended = method.extended(batch)
    lengths = (batch.seq > 0).sum(1)
    wanted = {}
    for row in range(len(lengths)):
        if lengths[row] >= shortest:
            wanted.setdefault(int(batch.user[row]), batch.seq[row][batch.seq[row] > 0].tolist())
    found = [items[original].tolist() for items, original in zip(extended.items, extended.original, strict=True)]
    assert sorted(found) == sorted(wanted.values())
    assert [len(row) for row in found] == sorted((len(row) for row in found), reverse=True)
    assert len(wanted) == users < int((lengths >= shortest).sum())


def test_fewer_than_two_long_histories_leave_the_next_item_loss_alone(sequences_of):
    train = sequences_of([[1, 2, 3, 4, 5], [6, 7, 8], [9, 10], [11, 12, 13]])
    method = build(train)
    method.on_epoch(99)
    batch, steps, before = batch_of(train, method), Steps(method, move=0.1), snapshot(method)
    assert method.extended(batch) is None
    expected = Method.losses(method, batch)["loss"].item()
    logs = method.optimize(batch, steps)
    assert set(logs) == {"loss"}
    assert logs["loss"].item() == pytest.approx(expected)
    assert moved(method, before) <= set(names_of(method, "recommender"))


def test_inference_never_meets_the_augmenter(train, monkeypatch):
    method = build(train)
    monkeypatch.setattr(method.augmenter, "forward", None)
    monkeypatch.setattr(method, "extended", None)
    assert torch.isfinite(method.eval().score(batch_of(train, method))).all()


@pytest.mark.parametrize("candidates", [0, 1, 5])
def test_any_number_of_candidates(train, candidates):
    method = build(train, "sasrec", f"method.candidates={candidates}")
    method.on_epoch(99)
    logs = method.optimize(batch_of(train, method), Steps(method, move=0.1))
    assert all(torch.isfinite(value) for value in logs.values())
    assert bool(logs["inserted"] > 0) is (candidates > 0)
