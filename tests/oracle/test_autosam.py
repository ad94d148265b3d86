"""AutoSAM against a slow literal reading of its equations (docs/methods/autosam.md)."""

import math

import pytest
import torch
import torch.nn.functional as F
from autosam_setting import (
    BACKBONES,
    DIM,
    ITEMS,
    KEPT,
    LOSSES,
    batch_of,
    default_positions,
    force,
    keep_probability,
    method_of,
    oracle,
)
from contract_setting import Contract

from seqrec.batch import Batch
from seqrec.methods.autosam import rewards
from seqrec.methods.autosam.subsequence import compact


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


@pytest.mark.parametrize("targets", ["kept", "all"])
@pytest.mark.parametrize("reward", ["likelihood", "pmi"])
@pytest.mark.parametrize("backbone", [["sasrec"], ["gru4rec", "method.official_first_item=false"], ["fmlprec"]])
def test_losses_with_another_reward_and_other_targets(monkeypatch, sequences_of, backbone, reward, targets):
    method = method_of(
        *(f"backbone={backbone[0]}", *backbone[1:], f"method.reward={reward}", f"method.targets={targets}"),
        *("method.future_weight=.7", "method.perplexity_weight=.4", "method.reward_rows=1", "loss=sampled_softmax"),
    ).eval()
    batch = batch_of(method)
    histories = [[i for i in row if i] for row in batch.seq.tolist()] + [[1, 2, 3, 3], [5, 3]]
    method.setup(sequences_of(histories))
    flat = [item for history in histories for item in history]
    popularity = [max(flat.count(item), 1) / len(flat) for item in range(ITEMS + 1)] if reward == "pmi" else None
    probability = keep_probability(method, batch.seq)
    force(monkeypatch, KEPT)
    got = {name: float(value.detach()) for name, value in method.losses(batch).items()}
    with torch.no_grad():
        want = oracle(method, batch, probability, KEPT, popularity)
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "mlp"])
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "fmlprec"])
def test_other_samplers_are_the_equations(kind, backbone):
    method = method_of(f"backbone={backbone}", f"method.sampler.kind={kind}", "method.sampler.temperature=2").eval()
    seq, own = batch_of(method).seq, method.sampler
    got = keep_probability(method, seq)
    table = method.backbone.position if own.position is None else own.position
    for b, row in enumerate(seq.tolist()):
        items = [i for i in row if i]
        state = torch.zeros(DIM)
        for t, e in enumerate(method.items.weight[items] + table.weight[default_positions(method, len(items))]):
            if kind == "mlp":
                state = own.block.outer(F.gelu(own.block.inner(e)))
            else:
                gru = own.block.recurrent
                of_item = (gru.weight_ih_l0 @ e + gru.bias_ih_l0).chunk(3)
                of_state = (gru.weight_hh_l0 @ state + gru.bias_hh_l0).chunk(3)
                reset, update = (torch.sigmoid(of_item[i] + of_state[i]) for i in range(2))
                state = (1 - update) * torch.tanh(of_item[2] + reset * of_state[2]) + update * state
            q = torch.cat([state, own.item.weight @ e + own.item.bias])
            o = own.choose(torch.relu(own.join(q))).tolist()
            want = math.exp(o[0] / 2) / (math.exp(o[0] / 2) + math.exp(o[1] / 2))
            assert float(got[b, seq.shape[1] - len(items) + t]) == pytest.approx(want, abs=1e-5)
    training = method_of(f"backbone={backbone}", f"method.sampler.kind={kind}")
    training.losses(batch_of(training))["loss"].backward()
    assert all(parameter.grad is not None for parameter in training.sampler.parameters())


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


def test_each_item_is_kept_with_its_own_probability_and_the_sampler_drops_out_in_training(monkeypatch):
    method = method_of()
    batch, modes = batch_of(method), []
    method.sampler.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    method.train().losses(batch)
    method.keep_probability(batch)
    method.losses(batch)
    assert modes == [True, False, True]
    wanted = KEPT & (batch.seq > 0)
    monkeypatch.setattr(method, "probability", lambda seq: wanted.float().requires_grad_())
    logs = method.losses(batch)
    assert float(logs["kept_share"]) == pytest.approx(float(wanted.sum() / (batch.seq > 0).sum()))


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


# --- what tests/contract asks


def alive(experiment, log):
    assert 0.3 <= log["train/kept_share"] <= 0.95
    assert log["train/keep_probability_sd"] > 0.05
    assert log["train/perplexity_reward"] > 0.05  # what fits is kept; at random it is near 0


CONTRACT = Contract(alive, loss="sampled_softmax", at_test=("sampler.",))
