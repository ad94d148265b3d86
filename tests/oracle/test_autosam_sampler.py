"""AutoSAM's samplers against a slow literal reading of their equations (docs/methods/autosam.md)."""

import math

import pytest
import torch
import torch.nn.functional as F
from autosam_setting import (
    BACKBONES,
    DIM,
    ITEMS,
    KEPT,
    batch_of,
    default_positions,
    keep_probability,
    method_of,
)


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
