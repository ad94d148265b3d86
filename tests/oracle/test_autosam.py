"""AutoSAM's losses and rewards against a slow literal reading of their equations (docs/methods/autosam.md)."""

import pytest
import torch
from autosam_setting import (
    BACKBONES,
    ITEMS,
    KEPT,
    LOSSES,
    batch_of,
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


# --- what tests/contract asks


def alive(experiment, log):
    assert 0.3 <= log["train/kept_share"] <= 0.95
    assert log["train/keep_probability_sd"] > 0.05
    assert log["train/perplexity_reward"] > 0.05  # what fits is kept; at random it is near 0


CONTRACT = Contract(alive, loss="sampled_softmax", at_test=("sampler.",))
