"""SASRec written out slowly: loops over rows, slots and heads."""

import math

import pytest
import torch
from backbone_setting import DIM, MAX_LEN, example, feed_forward, gelu, layer_norm, randomised, relu

from seqrec.backbones import sasrec
from seqrec.backbones.sasrec import SASRec


def attention(states, layer, heads, context=None):
    """Causal multi-head attention of a list of vectors [D] over themselves or over a list of as many."""
    size = DIM // heads
    projected = [layer.query_key_value.weight @ state + layer.query_key_value.bias for state in context or states]
    queries = [layer.query_key_value.weight[:DIM] @ state + layer.query_key_value.bias[:DIM] for state in states]
    results = []
    for now in range(len(states)):
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            query = queries[now][part]
            logits = [sum(query * projected[t][DIM : 2 * DIM][part]) / math.sqrt(size) for t in range(now + 1)]
            weights = [math.exp(logit) for logit in logits]
            values = [projected[t][2 * DIM :][part] for t in range(now + 1)]
            mixed.append(sum(w / sum(weights) * value for w, value in zip(weights, values, strict=True)))
        results.append(layer.output.weight @ torch.cat(mixed) + layer.output.bias)
    return results


def sasrec_row(backbone, items, positions, heads, activation, norm_first, scale_embedding):
    """States of one row's real items [n, D]."""
    scale = math.sqrt(DIM) if scale_embedding else 1.0
    states = [item * scale + backbone.position.weight[at] for item, at in zip(items, positions, strict=True)]
    if not norm_first:
        states = [layer_norm(state, backbone.norm) for state in states]
    for layer in backbone.layers:
        if norm_first == "original":
            queries = [layer_norm(state, layer.attention_norm) for state in states]
            summed = [q + a for q, a in zip(queries, attention(queries, layer, heads, states), strict=True)]
            normed = [layer_norm(state, layer.feedforward_norm) for state in summed]
            states = [state + feed_forward(state, layer, activation) for state in normed]
        elif norm_first:
            normed = [layer_norm(state, layer.attention_norm) for state in states]
            states = [s + a for s, a in zip(states, attention(normed, layer, heads), strict=True)]
            states = [s + feed_forward(layer_norm(s, layer.feedforward_norm), layer, activation) for s in states]
        else:
            summed = [s + a for s, a in zip(states, attention(states, layer, heads), strict=True)]
            states = [layer_norm(s, layer.attention_norm) for s in summed]
            states = [layer_norm(s + feed_forward(s, layer, activation), layer.feedforward_norm) for s in states]
    return [layer_norm(state, backbone.norm) for state in states] if norm_first else states


@pytest.mark.parametrize("norm_first", [True, False, "original"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("count_from", ["start", "end"])
@pytest.mark.parametrize("scale_embedding", [True, False])
@torch.no_grad()
def test_sasrec(norm_first, activation, count_from, scale_embedding):
    torch.manual_seed(0)
    backbone = SASRec(
        dim=DIM,
        max_len=MAX_LEN,
        layers=2,
        heads=3,
        feedforward=2,
        activation=activation,
        dropout=0.5,
        attention_dropout=0.5,
        inner_dropout=0.5,
        norm_first=norm_first,
        scale_embedding=scale_embedding,
        count_from=count_from,
    )
    backbone = randomised(backbone)
    x, mask = example(width=MAX_LEN - 1)
    states = backbone(x, mask)
    act = {"gelu": gelu, "relu": relu}[activation]
    for row in range(len(x)):
        slots = [slot for slot in range(x.shape[1]) if mask[row, slot]]
        positions = [slot + 1 if count_from == "end" else slot - slots[0] for slot in slots]
        items = [x[row, slot] for slot in slots]
        expected = sasrec_row(backbone, items, positions, 3, act, norm_first, scale_embedding)
        torch.testing.assert_close(states[row, slots], torch.stack(expected))


@pytest.mark.parametrize(("rate", "biased"), [(0.0, True), (0.4, False), (0.4, True)])
def test_attention_of_many_long_rows_keeps_no_weights_and_has_the_same_gradient(rate, biased, monkeypatch):
    """Pieces of 2 rows, computed again in the backward pass, beside pieces that are kept; without dropout beside the whole."""
    found = []
    for largest, again in ((2 * 3 * 16, True), (2 * 3 * 16, False), (2**25, True)):
        monkeypatch.setattr(sasrec, "LARGEST", largest)
        if not again:
            monkeypatch.setattr(sasrec, "checkpoint", lambda function, *given, use_reentrant: function(*given))
        torch.manual_seed(0)
        query, key, value = (torch.randn(5, 3, 4, 2, requires_grad=True) for _ in range(3))
        bias = torch.randn(5, 1, 1, 4, requires_grad=True) if biased else None
        attended = sasrec.causal_attention(query, key, value, rate, bias)
        inputs = [query, key, value, *([bias] if biased else [])]
        found.append((attended, *torch.autograd.grad((attended**3).sum(), inputs)))
    for parts in zip(*(found if not rate else found[:2]), strict=True):
        for part in parts[1:]:
            torch.testing.assert_close(part, parts[0], rtol=1e-4, atol=1e-6)
