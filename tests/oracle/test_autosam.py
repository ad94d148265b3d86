"""AutoSAM against a slow literal reading of its equations (docs/methods/autosam.md)."""

import functools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import train
from seqrec import losses as next_item
from seqrec.batch import Batch
from seqrec.build import make
from seqrec.errors import UserError
from seqrec.methods import autosam_rewards as rewards
from seqrec.methods.autosam import AutoSAM
from seqrec.methods.sampler import fixed_uniform
from seqrec.methods.subsequence import compact

CONF = str(Path(train.__file__).parent / "conf")
ITEMS, DIM, MAX_LEN = 30, 8, 6
BACKBONES = ("sasrec", "gru4rec", "fmlprec")
LOSSES = ("cross_entropy", "sampled_softmax")


@functools.cache
def keep_probability(method, seq):
    return method.keep_probability(Batch(torch.arange(len(seq)), seq, seq, seq))


def configure(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("config", ["method=autosam", f"dim={DIM}", f"max_len={MAX_LEN}", *overrides])


def method_of(*overrides, items=ITEMS) -> AutoSAM:
    """A method with larger weights than at the start, so that nothing is nearly constant."""
    values = OmegaConf.to_container(configure("backbone.layers=1", *overrides), resolve=True)
    torch.manual_seed(3)
    facts = {"num_items": items, "max_len": values["max_len"], "dim": values["dim"]}
    method = make(values["method"], **facts, loss=make(values["loss"]), backbone=make(values["backbone"]))
    if method.loss.negatives:
        method.loss.setup(torch.full((items + 1,), -math.log(items)))
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.endswith("gate"):
                parameter += 0.3 * torch.randn_like(parameter)
            else:
                parameter.fill_(0.7)
        method.items.weight[0] = 0
    return method


def batch_of(method, lengths=(6, 1, 4, 2, 3)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    width = max(lengths)
    flat = torch.stack([torch.randperm(ITEMS, generator=generator)[: width + 1] + 1 for _ in lengths])
    real = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    seq, target = flat[:, :-1] * real, flat[:, 1:] * real
    if not method.backbone.causal:
        target[:, :-1] = 0
    negative = torch.randperm(ITEMS, generator=generator)[:7] + 1 if method.loss.negatives else None
    index = torch.where(real, torch.arange(real.numel()).view_as(seq), -1)
    return Batch(torch.arange(len(lengths)), seq, target, index, negative)


# ----------------------------------------------------------------- the literal oracle


def default_positions(method, count):
    """Positions of a history of `count` items."""
    if method.backbone.count_from == "start":
        return list(range(count))
    return [method.max_len - count + place for place in range(count)]


def state_after(method, items, places):
    """The state of the newest of `items`, alone in a batch; FMLP-Rec gets its row right-aligned."""
    x = method.items(torch.tensor([items]))
    return method.backbone(x, torch.ones(1, len(items), dtype=torch.bool), torch.tensor([places]))[0, -1]


def log_probability(method, state, item, negatives):
    others = range(1, ITEMS + 1) if negatives is None else [item, *(int(j) for j in negatives if int(j) != item)]
    total = sum(math.exp(float(state @ method.items.weight[j])) for j in others)
    return float(state @ method.items.weight[item]) - math.log(total)


def oracle(method, batch, probability, kept):
    """Everything that `losses` returns, by plain loops over rows and items."""
    causal, rewarded_rows = method.backbone.causal, len(batch.seq)
    if not causal:
        rewarded_rows = math.ceil(method.reward_rows * len(batch.seq))
    rec, policy = [], 0.0
    count = dict.fromkeys(("items", "candidates", "confident"), 0)
    total = dict.fromkeys(("full", "gain", "future", "fit", "misfit"), 0.0)
    for b, row in enumerate(batch.seq.tolist()):
        items = [i for i in row if i]
        n, pad = len(items), len(row) - len([i for i in row if i])
        label = int(batch.target[b, -1])
        p, a = probability[b, pad:].tolist(), kept[b, pad:].tolist()
        place = default_positions(method, n)
        chosen = [t for t in range(n) if a[t]]

        def moved(places, predicts):
            """FMLP-Rec is asked with the slot before the predicted one last."""
            return places if causal else [q + method.max_len - predicts for q in places]

        # L_rec
        for k in range(len(chosen)):
            last = k == len(chosen) - 1
            if not causal and not last:
                continue
            goal = label if last else items[chosen[k + 1]]
            sub = chosen[: k + 1]
            state = state_after(method, [items[s] for s in sub], [place[s] for s in sub])
            rec.append(-log_probability(method, state, goal, batch.negative))
        if b >= rewarded_rows:
            continue

        # ell_t and ell^_t
        ell = [None] * n
        for t in range(1, n):
            state = state_after(method, items[:t], moved(place[:t], place[t]))
            ell[t] = log_probability(method, state, items[t], batch.negative)
        state = state_after(method, items, moved(place, place[-1] + 1))
        total["full"] -= sum(ell[1:]) + log_probability(method, state, label, batch.negative)
        if method.official_first_item and n < method.max_len:
            before = max(place[0] - 1, 0) if causal else method.max_len - 1
            state = method.backbone(
                torch.zeros(1, 1, DIM), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[before]])
            )[0, 0]
            ell[0] = log_probability(method, state, items[0], batch.negative)
        future = [0.0] * n
        for k in range(1, len(chosen)):
            t, sub = chosen[k], chosen[:k]
            state = state_after(method, [items[s] for s in sub], moved([place[s] for s in sub], place[t]))
            gain = log_probability(method, state, items[t], batch.negative) - ell[t]
            total["gain"] += gain
            count["candidates"] += 1
            if p[t] >= method.threshold:
                count["confident"] += 1
                future[t] = gain

        # rewards
        known = [value for value in ell if value is not None]
        mean = sum(known) / len(known) if known else 0.0
        for t in range(n):
            if ell[t] is not None:
                z = ell[t] - mean + method.margin
            else:
                z = 0 - mean + method.margin if method.official_first_item else 0.0
            fit = (2 * a[t] - 1) * z
            ahead = sum(method.discount ** (j - (t + 1)) * future[j] for j in range(t + 1, n))
            reward = method.future_weight * ahead + method.perplexity_weight * fit
            policy -= reward * math.log((p[t] if a[t] else 1 - p[t]) + 1e-12)
            count["items"] += 1
            total["future"] += ahead
            total["fit"] += fit
            total["misfit"] += z < 0
    policy /= rewarded_rows * method.max_len
    every = probability[batch.seq > 0]
    return {
        "loss": sum(rec) / len(rec) + policy,
        "subsequence_loss": sum(rec) / len(rec),
        "kept_share": float(kept.sum()) / len(every),
        "keep_probability": sum(every.tolist()) / len(every),
        "keep_probability_sd": math.sqrt(sum((v - float(every.mean())) ** 2 for v in every.tolist()) / len(every)),
        "rl_loss": policy,
        "full_loss": total["full"] / count["items"],
        "future_gain": total["gain"] / max(count["candidates"], 1),
        "confident_share": count["confident"] / max(count["candidates"], 1),
        "future_reward": total["future"] / count["items"],
        "perplexity_reward": total["fit"] / count["items"],
        "misfit_share": total["misfit"] / count["items"],
    }


def force(monkeypatch, kept):
    """Let every draw come out as `kept` [B, T]."""
    monkeypatch.setattr(torch, "rand_like", lambda p: torch.where(kept[: len(p), -p.shape[1] :], -1.0, 2.0))


KEPT = torch.tensor(
    [[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]],
    dtype=torch.bool,
)


@pytest.mark.parametrize("first_item", ["true", "false"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "backbone",
    [["sasrec"], ["sasrec", "backbone.count_from=end"], ["gru4rec"], ["fmlprec"], ["fmlprec", "method.reward_rows=1"]],
)
def test_losses_are_the_equations(monkeypatch, backbone, loss, first_item):
    method = method_of(
        *(f"backbone={backbone[0]}", *backbone[1:], f"loss={loss}", f"method.official_first_item={first_item}"),
        *("method.future_weight=.7", "method.perplexity_weight=.4", "method.margin=.6", "method.discount=.8"),
        "method.sampler.temperature=1",
    ).eval()
    batch = batch_of(method)
    probability = keep_probability(method, batch.seq)
    method.threshold = float(probability[:1][KEPT[:1]][1:].median())
    force(monkeypatch, KEPT)
    got = {name: float(value.detach()) for name, value in method.losses(batch).items()}
    with torch.no_grad():
        want = oracle(method, batch, probability, KEPT)
    assert next(iter(got)) == "loss"
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert 0 < want["confident_share"] < 1
    assert want["future_reward"] != 0


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
def test_the_sampler_is_the_equations(backbone):
    method = method_of(f"backbone={backbone}", "method.sampler.temperature=2").eval()
    seq = batch_of(method).seq
    got, own = keep_probability(method, seq), method.sampler
    assert (own.position is None) == (backbone == "sasrec")
    table = method.backbone.position if own.position is None else own.position
    block, heads = own.block, own.block.heads
    for b, row in enumerate(seq.tolist()):
        items = [i for i in row if i]
        e = method.items.weight[items] + table.weight[default_positions(method, len(items))]
        query, key, value = block.query_key_value(e).split(DIM, 1)
        mixed = torch.zeros_like(e)
        size = DIM // heads
        for t in range(len(items)):
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                weight = torch.stack([query[t, part] @ key[s, part] / size**0.5 for s in range(t + 1)]).softmax(0)
                mixed[t, part] = sum(weight[s] * value[s, part] for s in range(t + 1))
        x = block.attention_norm(e + block.attention_gate * block.output(mixed))
        x = block.feedforward_norm(x + block.feedforward_gate * block.outer(F.gelu(block.inner(x))))
        for t in range(len(items)):
            q = torch.cat([x[t], own.item.weight @ e[t] + own.item.bias])
            o = own.choose(torch.relu(own.join(q))).tolist()
            want = math.exp(o[0] / 2) / (math.exp(o[0] / 2) + math.exp(o[1] / 2))
            assert float(got[b, seq.shape[1] - len(items) + t]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_padding_is_never_kept_and_a_probability_sees_no_later_item(backbone):
    method = method_of(f"backbone={backbone}", "method.sampler.temperature=1")
    seq = batch_of(method).seq
    before = keep_probability(method, seq)
    assert ((before > 0) == (seq > 0)).all()
    assert method.training
    for slot in range(1, seq.shape[1]):
        other = seq.clone()
        other[:, slot:] = torch.where(seq[:, slot:] > 0, seq[:, slot:] % ITEMS + 1, 0)
        after = keep_probability(method, other)
        assert torch.allclose(before[:, :slot], after[:, :slot], atol=1e-6)
        assert not torch.allclose(before[:, slot:], after[:, slot:], atol=1e-6)


# ----------------------------------------------------------------- sub-sequences


def test_the_toy_row_of_the_specification():
    seq, target = torch.tensor([[0, 0, 1, 2, 3, 4]]), torch.tensor([[0, 0, 2, 3, 4, 5]])
    kept = torch.tensor([[0, 0, 1, 0, 1, 1]], dtype=torch.bool)
    method = method_of("backbone.count_from=end")
    sub = compact(seq, kept, method.backbone.positions)
    assert sub.seq.tolist() == [[1, 3, 4]]
    assert sub.positions.tolist() == [[2, 4, 5]]
    assert sub.targets(target).tolist() == [[3, 4, 5]]


def test_future_reward_lands_on_the_kept_items_but_the_first_and_not_on_the_label(monkeypatch):
    method = method_of(
        "method.discount=0", "method.threshold=0", "method.perplexity_weight=0", "method.future_weight=1"
    ).eval()
    seq, target = torch.tensor([[0, 0, 1, 2, 3, 4]]), torch.tensor([[0, 0, 2, 3, 4, 5]])
    batch = Batch(torch.zeros(1), seq, target, seq)
    kept = torch.tensor([[0, 0, 1, 0, 1, 1]], dtype=torch.bool)
    sub = compact(seq, kept, method.backbone.positions)
    hidden = method.encode(sub.seq, positions=sub.positions).detach()
    reward, _ = method.rewards(batch, torch.ones(1, 6), kept, sub, hidden)
    # without discount G_t is the reward of the very next slot: items 3 (slot 4) and 4 (slot 5)
    assert (reward != 0).tolist() == [[False, False, False, True, True, False]]


def test_prefix_rows_are_supervised_at_their_last_kept_item_alone():
    seq, target = torch.tensor([[5, 1, 2, 3, 4]]), torch.tensor([[0, 0, 0, 0, 9]])
    kept = torch.tensor([[0, 1, 0, 1, 0]], dtype=torch.bool)
    sub = compact(seq, kept, method_of().backbone.positions)
    assert sub.targets(target).tolist() == [[0, 9]]


@pytest.mark.parametrize("backbone", [["sasrec"], ["sasrec", "backbone.count_from=end"], ["gru4rec"]])
def test_a_sub_sequence_is_the_row_with_holes_at_its_original_positions(backbone):
    method = method_of(f"backbone={backbone[0]}", *backbone[1:]).eval()
    seq = batch_of(method).seq
    kept = KEPT & (seq > 0)
    sub = compact(seq, kept, method.backbone.positions)
    moved = method.encode(sub.seq, positions=sub.positions)
    holes = method.encode(seq * kept, positions=method.backbone.positions(seq > 0))
    assert torch.allclose(moved[sub.seq > 0], holes[kept], atol=1e-5)
    if backbone[0] == "sasrec":
        closed = method.encode(sub.seq)
        assert not torch.allclose(moved[sub.seq > 0], closed[sub.seq > 0], atol=1e-3)


def test_fmlprec_does_not_depend_on_the_width_of_the_batch():
    method = method_of("backbone=fmlprec").eval()
    seq, kept = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, True]])
    alone = compact(seq, kept, method.backbone.positions)
    wide = compact(
        torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]),
        torch.tensor([[False, True, False, True], [True] * 4]),
        method.backbone.positions,
    )
    narrow, broad = (method.encode(sub.seq, positions=sub.positions)[0, -1] for sub in (alone, wide))
    assert torch.allclose(narrow, broad, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rows_without_a_kept_item_give_no_nan(monkeypatch, backbone):
    method = method_of(f"backbone={backbone}", "method.reward_rows=.2")
    batch = batch_of(method)
    force(monkeypatch, KEPT.flip(0) & (torch.arange(5)[:, None] == 4))
    logs = method.losses(batch)
    assert all(torch.isfinite(value) for value in logs.values())
    force(monkeypatch, torch.zeros_like(KEPT))  # nothing in the whole batch
    logs = method.losses(batch)
    assert all(torch.isfinite(value) for value in logs.values())
    assert float(logs["kept_share"]) == pytest.approx(5 / 16)  # the newest item of each row stands in


# ----------------------------------------------------------------- rewards and policy gradient


def test_surprise_has_the_margin_as_its_mean():
    generator = torch.Generator().manual_seed(0)
    ell = -5 * torch.rand(3, 7, generator=generator)
    known = torch.tensor([[0] * 3 + [1] * 4, [1] * 7, [0] * 7], dtype=torch.bool)
    z = rewards.surprises(ell * known, known, 0.75)
    for row in (0, 1):
        assert float(z[row][known[row]].mean()) == pytest.approx(0.75, abs=1e-6)
    assert torch.isfinite(z).all()


def test_return_is_discounted_over_original_gaps():
    # the next, the 4th and the 6th following slot give 1, gamma^3 and gamma^5 of their reward
    reward = torch.tensor([[0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 5.0]])
    g = rewards.discounted_return(reward, 0.9)
    assert float(g[0, 0]) == pytest.approx(2 + 0.9**3 * 3 + 0.9**5 * 5)
    assert float(g[0, 1]) == pytest.approx(0.9**2 * 3 + 0.9**4 * 5)
    assert float(g[0, 6]) == 0


@pytest.mark.parametrize("z", [1.3, -0.4])
def test_expected_perplexity_gradient_is_a_drift_with_the_sign_of_z(z):
    logit = torch.tensor([[0.8]], requires_grad=True)
    p, expected = torch.sigmoid(logit), 0
    for action in (True, False):
        kept = torch.tensor([[action]])
        loss = rewards.reinforce(rewards.perplexity_reward(kept, torch.tensor([[z]])), kept, p, max_len=1)
        expected = expected + torch.where(kept, p, 1 - p).detach().squeeze() * loss
    expected.backward()
    p = float(p.detach())
    assert float(logit.grad) == pytest.approx(-2 * p * (1 - p) * z, rel=1e-5)


def test_threshold_rises_by_epoch_and_is_the_same_after_a_restart():
    method = method_of("method.threshold=.8", "method.threshold_step=.03", "method.threshold_limit=.99")
    seen = []
    for epoch in (0, 3, 6, 7, 50):
        method.on_epoch(epoch)
        seen.append(method.threshold)
    assert seen == pytest.approx([0.8, 0.89, 0.98, 0.99, 0.99])
    again = method_of()
    again.on_stage(0)
    again.on_epoch(6)
    again.load_state_dict(method.state_dict())
    assert again.threshold == pytest.approx(0.98)


def test_reward_weight_does_not_depend_on_trimming(monkeypatch):
    method = method_of("max_len=8").eval()
    batch = batch_of(method)
    force(monkeypatch, KEPT)
    trimmed = {name: float(value.detach()) for name, value in method.losses(batch).items()}

    def padded(values):
        return torch.cat([torch.zeros_like(values[:, :2]), values], 1)

    wide = Batch(batch.user, padded(batch.seq), padded(batch.target), padded(batch.index), batch.negative)
    force(monkeypatch, padded(KEPT))
    for name, value in method.losses(wide).items():
        assert float(value.detach()) == pytest.approx(trimmed[name], rel=1e-4, abs=1e-7)


def test_rewards_come_from_a_training_pass_unless_switched_off():
    for switch, same in (("true", False), ("false", True)):
        method = method_of("backbone.dropout=.5", f"method.reward_dropout={switch}")
        batch = batch_of(method)
        sub = compact(batch.seq, KEPT & (batch.seq > 0), method.backbone.positions)

        def reward(batch=batch, sub=sub, method=method):
            p = torch.ones(batch.seq.shape)
            hidden = method.encode(sub.seq, positions=sub.positions).detach()
            return method.rewards(batch, p, KEPT & (batch.seq > 0), sub, hidden)[0]

        torch.manual_seed(0)
        assert torch.equal(reward(), reward()) == same
        assert method.backbone.training
        if same:
            first = reward()
            method.eval()
            assert torch.allclose(first, reward(), atol=1e-6)


# ----------------------------------------------------------------- what moves what


def gradients(method, loss):
    return torch.autograd.grad(loss, list(method.parameters()), allow_unused=True, retain_graph=True)


def moved(method, gradient):
    return {
        name
        for (name, _), value in zip(method.named_parameters(), gradient, strict=True)
        if value is not None and value.abs().sum() > 0
    }


def parts(method, batch, kept):
    """L_rec and L_RL with their graphs."""
    probability = method.probability(batch.seq)
    sub = compact(batch.seq, kept, method.backbone.positions)
    hidden = method.encode(sub.seq, positions=sub.positions)
    target = sub.targets(batch.target)
    rec = method.loss(hidden[target > 0], target[target > 0], method.items.weight, batch.negative)
    reward, _ = method.rewards(batch, probability.detach(), kept, sub, hidden.detach())
    assert not reward.requires_grad
    return rec, rewards.reinforce(reward, kept, probability, method.max_len)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_loss_reaches_what_it_should(backbone):
    for switch in ("true", "false"):
        method = method_of(f"backbone={backbone}", "method.reward_rows=1", f"method.reward_embeddings={switch}")
        batch = batch_of(method)
        rec, policy = (moved(method, gradients(method, loss)) for loss in parts(method, batch, KEPT & (batch.seq > 0)))
        every = {name for name, _ in method.named_parameters()}
        sampler = {name for name in every if name.startswith("sampler.")}
        assert not rec & sampler
        assert {"items.weight"} | {name for name in every if name.startswith("backbone.layers")} <= rec
        embeddings = {"items.weight"} | ({"backbone.position.weight"} & every)
        if switch == "false":
            assert policy == sampler
        else:
            assert policy == sampler | embeddings


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_step_moves_the_sampler_by_plain_gradient_descent(backbone, loss):
    method = method_of(f"backbone={backbone}", f"loss={loss}")
    groups = method.param_groups()
    assert set(groups) == {"model", "sampler"}
    lists = {name: list(group.parameters) for name, group in groups.items()}
    flat = [id(parameter) for group in lists.values() for parameter in group]
    assert sorted(flat) == sorted(id(parameter) for parameter in method.parameters())
    assert {id(parameter) for parameter in lists["sampler"]} == {
        id(parameter) for parameter in method.sampler.parameters()
    }
    assert groups["model"].optimizer is None
    optimizer = groups["sampler"].optimizer(lists["sampler"])
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.1
    assert optimizer.defaults["momentum"] == 0
    before = {name: value.clone() for name, value in method.sampler.named_parameters()}
    method.losses(batch_of(method))["loss"].backward()
    optimizer.step()
    for name, value in method.sampler.named_parameters():
        assert torch.isfinite(value).all()
        assert torch.allclose(value, before[name] - 0.1 * value.grad)
        assert value.grad.abs().sum() > 0


def test_a_new_sampler_keeps_about_half():
    values = OmegaConf.to_container(configure("dim=128", "max_len=50", "method.sampler.temperature=5"), resolve=True)
    torch.manual_seed(0)
    method = make(
        values["method"],
        num_items=500,
        max_len=50,
        dim=128,
        loss=make(values["loss"]),
        backbone=make(values["backbone"]),
    )
    p = keep_probability(method, torch.randint(1, 501, (64, 50)))
    assert 0.4 < float(p.mean()) < 0.6
    assert float(p.std()) < 0.08
    # the query, key and value projections are three matrices of their own
    weight = method.sampler.block.query_key_value.weight
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 256), rel=0.02)


# ----------------------------------------------------------------- inference


def kept_places(method, p, user, draw=0):
    """Places (from the oldest) that stay of one history with probabilities p, by the numbers' own definition."""

    def mix(word):
        word = (word + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    stay = []
    for place, value in enumerate(p):
        age = len(p) - 1 - place
        key = mix((mix((mix((mix(method.draw_seed) + draw) % 2**64) + user) % 2**64) + age) % 2**64)
        if age == 0 or (value >= 0.5 if method.inference == "threshold" else (key >> 40) / 2**24 < value):
            stay.append(place)
    return stay


@pytest.mark.parametrize("inference", ["bernoulli", "threshold", "mean", "all"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_scores_are_those_of_the_kept_items(backbone, inference):
    method = method_of(
        *(f"backbone={backbone}", f"method.inference={inference}", "method.draw_seed=5", "method.draws=3"),
        "method.sampler.temperature=1",
    ).eval()
    batch = batch_of(method)
    middle = keep_probability(method, batch.seq)[batch.seq > 0].median()
    with torch.no_grad():
        method.sampler.choose.bias[1] += torch.logit(middle)  # now half of the items are below .5
        got = method.score(batch)
    dropped = 0
    for b, row in enumerate(batch.seq.tolist()):
        items = [i for i in row if i]
        p = keep_probability(method, torch.tensor([items]))[0].tolist()
        place, states = default_positions(method, len(items)), []
        for draw in range(3 if inference == "mean" else 1):
            stay = range(len(items)) if inference == "all" else kept_places(method, p, int(batch.user[b]), draw)
            dropped += len(items) - len(stay)
            states.append(state_after(method, [items[t] for t in stay], [place[t] for t in stay]))
        want = sum(states) / len(states) @ method.items.weight.T
        assert torch.allclose(got[b], want, atol=1e-4)
    assert (dropped > 0) == (inference != "all")


def test_scores_do_not_depend_on_batch_size_or_order():
    method = method_of("method.sampler.temperature=1").eval()
    batch = batch_of(method)
    with torch.no_grad():
        whole = method.score(batch)
        for b in range(len(batch.seq)):
            length = int((batch.seq[b] > 0).sum())
            seq = batch.seq[b : b + 1, -length:]
            alone = Batch(batch.user[b : b + 1], seq, seq, seq)
            assert torch.allclose(method.score(alone)[0], whole[b], atol=1e-4)


def test_draws_are_uniform_and_differ_by_every_part_of_their_key():
    users = torch.arange(2000)
    numbers = fixed_uniform(1, 2, users, 10)
    assert numbers.shape == (2, 2000, 10)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    histogram = torch.histc(numbers, 20, 0, 1) / numbers.numel()
    assert torch.allclose(histogram, torch.full((20,), 0.05), atol=0.004)
    flat = numbers.flatten(1)
    assert abs(float(torch.corrcoef(flat)[0, 1])) < 0.03
    by_slot = torch.corrcoef(numbers[0].T) - torch.eye(10)
    assert float(by_slot.abs().max()) < 0.1
    assert (fixed_uniform(2, 2, users, 10) != numbers).float().mean() > 0.99
    assert torch.equal(fixed_uniform(1, 1, users.flip(0), 4)[0], numbers[0].flip(0)[:, -4:])


# ----------------------------------------------------------------- controls, loading, refusals


@pytest.mark.parametrize("policy", ["random", "last"])
def test_controls_keep_the_wanted_share(policy):
    method = method_of(f"method.policy={policy}", "method.keep_rate=.45")
    assert set(method.param_groups()) == {"model"}
    assert not any("sampler" in name for name in method.state_dict())
    seq = batch_of(method).seq
    p = method.probability(seq)
    lengths = (seq > 0).sum(1)
    assert torch.allclose(p.sum(1), 0.45 * lengths)
    assert (p[seq == 0] == 0).all()
    for row, length in zip(p.tolist(), lengths.tolist(), strict=True):
        for age, value in enumerate(reversed(row[-length:])):
            want = 0.45 if policy == "random" else min(max(0.45 * length - age, 0), 1)
            assert value == pytest.approx(want)
    logs = method.losses(batch_of(method))
    logs["loss"].backward()
    assert set(logs) == {"loss", "subsequence_loss", "kept_share", "keep_probability", "keep_probability_sd"}
    assert logs["loss"] == logs["subsequence_loss"]


def test_a_sampler_of_another_data_set_can_be_taken_over(tmp_path):
    source = method_of()
    torch.save({"model": source.state_dict(), "epoch": 1}, tmp_path / "best.pt")
    taken = method_of(f"method.sampler_from={tmp_path}", items=17)
    with torch.no_grad():
        for parameter in taken.sampler.parameters():
            parameter.zero_()
    items = taken.items.weight.clone()
    taken.on_stage(0)
    for name, value in taken.sampler.state_dict().items():
        assert torch.equal(value, source.sampler.state_dict()[name])
    assert torch.equal(taken.items.weight, items)


def test_a_sampler_that_does_not_fit_is_refused(tmp_path):
    key = f"method.sampler_from={tmp_path}"
    with pytest.raises(UserError, match=r"method.sampler_from=.*best.pt"):
        method_of(key).on_stage(0)
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"method.sampler_from=.*best.pt"):
        method_of(key).on_stage(0)
    torch.save({"model": method_of("dim=16").state_dict()}, tmp_path / "best.pt")
    with pytest.raises(UserError, match=r"method.sampler_from=.*same dim"):
        method_of(key).on_stage(0)
    torch.save({"model": method_of("method.policy=random").state_dict()}, tmp_path / "best.pt")
    with pytest.raises(UserError, match=r"method.sampler_from=.*no sampler"):
        method_of(key).on_stage(0)
    with pytest.raises(UserError, match=r"method.policy=last"):
        method_of(key, "method.policy=last")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("method.policy=best", "method.policy=best"),
        ("method.inference=greedy", "method.inference=greedy"),
        ("method.keep_rate=70", "method.keep_rate=70"),
        ("method.sampler.heads=3", "method.sampler.heads=3"),
    ],
)
def test_wrong_values_are_named(override, named):
    with pytest.raises(UserError, match=named):
        method_of(override)


def test_losses_without_log_probabilities_are_refused():
    backbone = object
    for loss in (
        next_item.BinaryCrossEntropy,
        next_item.GeneralisedBinaryCrossEntropy,
        next_item.BayesianPersonalisedRanking,
    ):
        assert "log-probabilities" in AutoSAM.refuse(loss, backbone)
    for loss in (next_item.CrossEntropy, next_item.SampledSoftmax):
        assert AutoSAM.refuse(loss, backbone) is None
    assert AutoSAM.refuse(None, None)
