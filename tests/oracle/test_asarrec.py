"""AsarRec's two losses and its two players, against a slow version that takes one history at a time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import train as entry
from seqrec.build import make
from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.methods import matrix_objectives as objectives
from seqrec.methods.base import Method
from seqrec.methods.semi_sinkhorn import discretise, semi_sinkhorn

CONF = str(Path(entry.__file__).parent / "conf")
ITEMS, MAX_LEN, DIM, K = 30, 8, 8, 3
STILL = {
    "sasrec": ("dropout", "attention_dropout", "inner_dropout"),
    "gru4rec": ("embedding_dropout", "dropout"),
    "fmlprec": ("embedding_dropout", "dropout"),
}
LIVELY = (
    *("method.stay=.3", "method.gumbel=0", "method.threshold=.3", "method.power=1.1", "method.iterations=3"),
    *("method.diversity_margin=.5", "method.least=.4"),
)
BACKBONES = ["sasrec", "sasrec-end", "gru4rec", "fmlprec"]


@pytest.fixture
def train(sequences_of):
    generator = np.random.default_rng(5)
    lengths = (12, 9, 7, 7, 5, 4, 3, 2, 6, 10)
    return sequences_of([(generator.permutation(ITEMS)[:length] + 1).tolist() for length in lengths])


COMPARED_BY = {
    "dot": ("method.cosine=false", "method.temperature=5"),
    "cosine": ("method.cosine=true", "method.temperature=.5"),
}


def build(train, backbone="sasrec", *changes, method="asarrec", still=True, lively=True):
    """A method from the real configuration, with embeddings and an augmenter that make all kinds of views."""
    name, _, count_from = backbone.partition("-")
    overrides = [f"method={method}", f"backbone={name}", "loss=bce"]
    if still:
        overrides += [f"backbone.{key}=0" for key in STILL[name]]
    if name == "sasrec":
        overrides += [f"backbone.count_from={count_from or 'start'}", "backbone.layers=2"]
    if method == "asarrec":
        overrides += [f"method.candidates={K}", *COMPARED_BY["dot"], *(LIVELY if lively else ())]
    overrides += changes
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides), resolve=True)
    torch.manual_seed(3)
    facts = {"num_items": ITEMS, "max_len": MAX_LEN, "dim": DIM}
    made = make(config["method"], **facts, loss=make(config["loss"]), backbone=make(config["backbone"]))
    made.setup(train)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
        made.items.weight[0] = 0
        if method == "asarrec" and lively:
            made.augmenter.query.weight *= 3
            made.augmenter.null.weight *= 3
    return made.train()


def batch_of(train, method, size=10):
    negatives = NegativeSampler(train, ITEMS, 1, shared=False, power=0.0, seed=1)
    loader = TrainLoader(train, size, MAX_LEN, 1, negatives, prefixes=not method.backbone.causal)
    return next(loader.epoch(0))


class Steps:
    """Stands in for the trainer's update and notes the gradients of each step; `move` lets them act."""

    def __init__(self, method, move=0.0):
        self.method, self.move, self.made = method, move, []

    def __call__(self, loss, *groups):
        self.method.zero_grad(set_to_none=True)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in self.method.named_parameters() if p.grad is not None}
        self.made.append((groups, float(loss.detach()), gradients))
        with torch.no_grad():
            for group in groups:
                for parameter in self.method.param_groups()[group].parameters:
                    if parameter.grad is not None:
                        parameter -= self.move * parameter.grad


# --- the slow version ------------------------------------------------------------------------------------------


def slow_views(method, batch):
    """One entry per augmented history: items, matrices S and H per view, and the views as sources per slot (or None)."""
    found, users = [], set()
    for row in range(len(batch.seq)):
        history = [item for item in batch.seq[row].tolist() if item]
        if len(history) < 3 or int(batch.user[row]) in users:
            continue
        users.add(int(batch.user[row]))
        candidates = method.candidates(batch, torch.tensor([row]))[0].tolist()
        items, n = [*reversed(candidates), *history], len(history)
        original = torch.tensor([slot >= K for slot in range(n + K)])
        x = method.items.weight[items].detach()
        target = torch.ones(n + K, dtype=torch.bool)
        inputs = (part[None] for part in (x, torch.tensor(items) > 0, original, target))
        soft = semi_sinkhorn(method.augmenter(*inputs), method.iterations, method.power)
        hard = discretise(soft, method.threshold)
        views = []
        for view in range(2):
            source = [None] * (n + K)
            for i in range(n + K):
                for j in range(n + K):
                    if hard[0, view, i, j] == 1:
                        source[j] = i
            kept = sum(i is not None and i >= K for i in source)
            fallback = kept < max(1, math.ceil(0.4 * n))
            views.append([slot if slot >= K else None for slot in range(n + K)] if fallback else source)
        found.append((items, n, soft, hard, original[None], views))
    return found


def slow_state(method, x, occupied):
    """What is compared of one row of embeddings, with the positions of the main task: the state of the last occupied slot, or all."""
    size = len(occupied)
    if method.compact:
        order = [slot for slot in range(size) if not occupied[slot]] + [slot for slot in range(size) if occupied[slot]]
        x, occupied = [x[slot] for slot in order], [occupied[slot] for slot in order]
    first = 0 if method.backbone.count_from == "start" else MAX_LEN + K - size
    hidden = method.backbone(
        torch.stack(x)[None], torch.tensor(occupied)[None], torch.arange(first, first + size)[None]
    )
    if method.contrast.vector == "last":
        return hidden[0, max(slot for slot in range(size) if occupied[slot])]
    states = [hidden[0, slot] if occupied[slot] else torch.zeros(DIM) for slot in range(size)]
    return torch.cat([torch.zeros((MAX_LEN + K - size) * DIM), *states])


def slow_contrast(states, contrast):
    """states: one pair per history."""
    temperature = contrast.temperature
    if contrast.cosine:
        states = [[state / state.norm() for state in pair] for pair in states]
    anchors = [(i, v) for i in range(len(states)) for v in range(2)]
    total = 0.0
    for i, v in anchors:
        own = torch.exp(states[i][v] @ states[i][1 - v] / temperature)
        rest = sum(torch.exp(states[i][v] @ states[a][w] / temperature) for a, w in anchors if (a, w) != (i, v))
        total = total - torch.log(own / rest)
    return total / len(anchors)


def slow_augmenter_loss(method, batch):
    states, diversity, invariance = [], [], []
    for items, n, soft, hard, original, views in slow_views(method, batch):
        matrix = hard + (soft - soft.detach())
        pair = []
        for view in range(2):
            own = method.items.weight[items].detach()
            literal = [sum(matrix[0, view, i, j] * own[i] for i in range(n + K)) for j in range(n + K)]
            identity = [slot if slot >= K else None for slot in range(n + K)]
            made = [next((i for i in range(n + K) if hard[0, view, i, j] == 1), None) for j in range(n + K)]
            if views[view] == identity and made != identity:
                literal = list(own)
            pair.append(slow_state(method, literal, [i is not None for i in views[view]]))
            ndcg = objectives.sequence_ndcg(matrix, original, "D")[0, view]
            invariance.append(torch.relu(objectives.worst_ndcg(original, "D", 0.1)[0] - ndcg))
        states.append(pair)
        soft_d = ((soft[0, 0] - soft[0, 1]) ** 2).sum() / (2 * n)
        hard_d = ((hard[0, 0] - hard[0, 1]) ** 2).sum() / (2 * n)
        diversity.append(torch.relu(0.5 - (soft_d + (hard_d - soft_d).detach())))
    contrast = slow_contrast(states, method.contrast)
    return -contrast + 0.1 * torch.stack(diversity).mean() + torch.stack(invariance).mean()


def slow_recommender_loss(method, batch):
    table, terms = method.items.weight, []
    for row in range(len(batch.seq)):
        slots = [slot for slot in range(batch.seq.shape[1]) if batch.seq[row, slot] > 0]
        n = len(slots)
        first = K if method.backbone.count_from == "start" else MAX_LEN + K - n
        positions = torch.arange(first, first + n)[None]
        hidden = method.backbone(table[batch.seq[row, slots]][None], torch.ones(1, n).bool(), positions)[0]
        for place, slot in enumerate(slots):
            if batch.target[row, slot] > 0:
                own = hidden[place] @ table[batch.target[row, slot]]
                other = hidden[place] @ table[batch.negative[row, slot, 0]]
                terms.append(-torch.log(torch.sigmoid(own)) - torch.log(1 - torch.sigmoid(other)))
    states = []
    for items, _, _, _, _, views in slow_views(method, batch):
        pair = []
        for source in views:
            x = [torch.zeros(DIM) if i is None else table[items[i]] for i in source]
            pair.append(slow_state(method, x, [i is not None for i in source]))
        states.append(pair)
    return torch.stack(terms).mean() + 0.1 * slow_contrast(states, method.contrast)


def gradients_of(method, loss, names):
    parameters = [parameter for name, parameter in method.named_parameters() if name in names]
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def names_of(method, player):
    return [name for name, _ in method.named_parameters() if name.startswith("augmenter.") == (player == "augmenter")]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_views_of_these_tests_are_of_all_kinds(train, backbone):
    """Or the comparisons below would compare little."""
    method = build(train, backbone)
    method.on_epoch(99)
    logs = method.optimize(batch_of(train, method, size=30 if backbone == "fmlprec" else 10), Steps(method))
    for name in ("dropped", "moved", "inserted", "fallback", "diversity", "invariance"):
        assert logs[name] > 0, name
    assert 0.5 < logs["changed"] < 1


@pytest.mark.parametrize(
    ("vector", "by", "compact"),
    [("last", "cosine", "false"), ("last", "dot", "true"), ("flat", "dot", "false"), ("flat", "cosine", "true")],
)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_both_losses_and_their_gradients_follow_the_equations(train, backbone, vector, by, compact):
    method = build(train, backbone, f"method.vector={vector}", f"method.compact={compact}", *COMPARED_BY[by])
    method.on_epoch(99)
    batch = batch_of(train, method, size=30 if backbone == "fmlprec" else 10)
    steps = Steps(method)
    logs = method.optimize(batch, steps)
    (first, augmenter_loss, augmenter_gradient), (second, loss, gradient) = steps.made
    assert (first, second) == (("augmenter",), ("recommender",))
    method.backbone.eval()
    for player, value, found, slow in (
        ("augmenter", augmenter_loss, augmenter_gradient, slow_augmenter_loss(method, batch)),
        ("recommender", loss, gradient, slow_recommender_loss(method, batch)),
    ):
        assert value == pytest.approx(float(slow.detach()), rel=1e-4), player
        names = names_of(method, player)
        squares = 0.0
        for name, wanted in gradients_of(method, slow, names).items():
            if wanted is not None:
                if name == "items.weight":
                    wanted[0] = 0  # padding has no embedding to learn
                torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
                squares += float(wanted.square().sum())
        norm = logs["augmenter_gradient" if player == "augmenter" else "gradient"]
        assert float(norm) == pytest.approx(math.sqrt(squares), rel=1e-3)
    assert float(logs["loss"].detach()) == pytest.approx(
        float(logs["next_item"].detach()) + 0.1 * float(logs["contrast"].detach()), rel=1e-6
    )
    assert logs["augmenter"].item() == pytest.approx(augmenter_loss)


def test_the_same_loss_without_a_step(train):
    method = build(train)
    method.on_epoch(99)
    batch, steps = batch_of(train, method), Steps(method)
    method.optimize(batch, steps)
    assert method.losses(batch)["loss"].detach().item() == pytest.approx(steps.made[1][1], rel=1e-6)


def test_informativeness_is_sought_or_kept_by_its_sign(train):
    terms = {}
    for mode in ("adversarial", "cooperative"):
        method = build(train, "sasrec", f"method.info_mode={mode}", "method.info_weight=2")
        method.on_epoch(99)
        logs = method.optimize(batch_of(train, method), Steps(method))
        terms[mode] = float(logs["augmenter"] - 0.1 * logs["diversity"] - logs["invariance"])
    assert terms["adversarial"] == pytest.approx(-2 * float(logs["contrast"]), rel=1e-4)
    assert terms["cooperative"] == pytest.approx(2 * float(logs["contrast"]), rel=1e-4)


def test_every_weight_acts_on_its_term(train):
    base = build(train)
    base.on_epoch(99)
    plain = base.optimize(batch_of(train, base), Steps(base))
    for key, default, name in (("diversity_weight", 0.1, "diversity"), ("invariance_weight", 1.0, "invariance")):
        method = build(train, "sasrec", f"method.{key}=3")
        method.on_epoch(99)
        logs = method.optimize(batch_of(train, method), Steps(method))
        expected = float(plain["augmenter"] + (3 - default) * plain[name])
        assert float(logs["augmenter"]) == pytest.approx(expected, rel=1e-5)
    method = build(train, "sasrec", "method.weight=.3")
    logs = method.losses(batch_of(train, method))
    assert float(logs["loss"]) == pytest.approx(float(logs["next_item"] + 0.3 * logs["contrast"]), rel=1e-6)


def test_diversity_is_counted_on_hard_views_and_felt_by_soft_ones(train):
    """Both hard views are the identity: the hinge is at its margin, and its gradient is alive."""
    method = build(
        train, "sasrec", "method.info_weight=0", "method.invariance_weight=0", "method.stay=.95", lively=False
    )
    method.augmenter.gumbel = 0.0
    with torch.no_grad():
        for parameter in method.augmenter.parameters():
            parameter *= 0.1
    method.on_epoch(99)
    steps = Steps(method)
    logs = method.optimize(batch_of(train, method), steps)
    assert logs["changed"] == 0
    assert logs["distance"] == 0
    assert logs["soft_distance"] > 0
    assert float(logs["diversity"]) == pytest.approx(0.1)
    assert steps.made[0][2]["augmenter.query.weight"].abs().max() > 0
    far = build(train, "sasrec", "method.diversity_margin=0")
    far.on_epoch(99)
    assert far.optimize(batch_of(train, far), Steps(far))["diversity"] == 0


# --- positions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["sasrec", "sasrec-end"])
def test_the_main_task_uses_the_last_rows_of_the_position_table_and_views_the_same_ones(train, backbone):
    method = build(train, backbone)
    batch = batch_of(train, method)
    extended = method.extended(batch)
    views = method.view_positions(extended)
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


def test_one_row_per_user_of_at_least_three_items_is_augmented(train):
    method = build(train, "fmlprec")
    batch = batch_of(train, method, size=40)
    extended = method.extended(batch)
    lengths = (batch.seq > 0).sum(1)
    wanted = {}
    for row in range(len(lengths)):
        if lengths[row] >= 3:
            wanted.setdefault(int(batch.user[row]), batch.seq[row][batch.seq[row] > 0].tolist())
    found = [items[original].tolist() for items, original in zip(extended.items, extended.original, strict=True)]
    assert sorted(found) == sorted(wanted.values())
    assert [len(row) for row in found] == sorted((len(row) for row in found), reverse=True)
    assert len(wanted) < int((lengths >= 3).sum())


def test_fewer_than_two_long_histories_leave_the_next_item_loss_alone(sequences_of):
    train = sequences_of([[1, 2, 3, 4, 5], [6, 7, 8], [9, 10], [11, 12, 13]])
    method = build(train)
    method.on_epoch(99)
    batch, steps, before = batch_of(train, method), Steps(method, move=0.1), snapshot(method)
    assert method.extended(batch) is None
    expected = float(Method.losses(method, batch)["loss"])
    logs = method.optimize(batch, steps)
    assert set(logs) == {"loss"}
    assert float(logs["loss"]) == pytest.approx(expected)
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
