"""BSARec written out slowly: loops over rows, slots, heads and frequencies."""

import math

import pytest
import torch
from backbone_setting import DIM, MAX_LEN, example, feed_forward, gelu, layer_norm, randomised

from seqrec.backbones.bsarec import BSARec


def low_frequencies(slots, components):
    """Low-passed vectors [L][D]: analysis and synthesis at the frequencies -(components // 2) .. components // 2, once each."""
    length, highest = len(slots), components // 2
    kept = {frequency % length for frequency in range(-highest, highest + 1)}
    result = [torch.zeros(DIM, dtype=torch.double) for _ in slots]
    for frequency in kept:
        angles = [2 * math.pi * frequency * t / length for t in range(length)]
        real = sum(slot * math.cos(angle) for slot, angle in zip(slots, angles, strict=True))
        imaginary = -sum(slot * math.sin(angle) for slot, angle in zip(slots, angles, strict=True))
        for t, angle in enumerate(angles):
            result[t] += (real * math.cos(angle) - imaginary * math.sin(angle)) / length
    return result


def attention_over(slots, real, layer, heads):
    """Causal attention over real slots; a slot with none up to itself attends to all slots."""
    size, results = DIM // heads, []
    keys_values = [layer.key_value.weight @ slot + layer.key_value.bias for slot in slots]
    for now, slot in enumerate(slots):
        query = layer.query.weight @ slot + layer.query.bias
        visible = [then for then in range(now + 1) if real[then]] or range(len(slots))
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            logits = [sum(query[part] * keys_values[then][:DIM][part]) / math.sqrt(size) for then in visible]
            weights = [math.exp(logit) for logit in logits]
            values = [keys_values[then][DIM:][part] for then in visible]
            mixed.append(sum(w / sum(weights) * value for w, value in zip(weights, values, strict=True)))
        results.append(layer.output.weight @ torch.cat(mixed) + layer.output.bias)
    return results


@pytest.mark.parametrize(
    ("max_len", "components", "heads", "filter_weight"),
    [(8, 5, 3, 0.7), (7, 3, 1, 0.3), (8, 1, 2, 0.9), (8, 9, 1, 0.5), (7, 4, 1, 0.5), (8, 5, 1, 0.0), (8, 3, 1, 1.0)],
)
@torch.no_grad()
def test_bsarec(max_len, components, heads, filter_weight):
    torch.manual_seed(0)
    options = {"layers": 2, "feedforward": 2, "dropout": 0.5, "attention_dropout": 0.5}
    options |= {"heads": heads, "filter_weight": filter_weight, "low_components": components}
    backbone = randomised(BSARec(dim=DIM, max_len=max_len, **options))
    x, mask = example(width=max_len - 2)
    mask[1] = False
    mask[1, -1] = True  # all padding but one slot
    mask[2, -1] = False  # the newest slot is a hole
    states = backbone(x, mask)
    for row in range(len(x)):
        real = [False, False, *mask[row].tolist()]
        slots = [torch.zeros(DIM, dtype=torch.double)] * 2 + list(x[row] * mask[row, :, None])
        slots = [layer_norm(s + backbone.position.weight[at], backbone.norm) for at, s in enumerate(slots)]
        for layer in backbone.layers:
            filtered, attended = [], attention_over(slots, real, layer, heads)
            for slot, low in zip(slots, low_frequencies(slots, components), strict=True):
                rescaled = low + layer.root_scale**2 * (slot - low)
                filtered.append(layer_norm(slot + rescaled, layer.filter_norm))
            attended = [layer_norm(s + a, layer.attention_norm) for s, a in zip(slots, attended, strict=True)]
            slots = [filter_weight * f + (1 - filter_weight) * a for f, a in zip(filtered, attended, strict=True)]
            slots = [layer_norm(s + feed_forward(s, layer, gelu), layer.feedforward_norm) for s in slots]
        expected = torch.stack(slots[2:])[mask[row]]
        torch.testing.assert_close(states[row, mask[row]], expected, rtol=1e-5, atol=1e-5)  # the projection is in float


@pytest.mark.parametrize("filter_weight", [0.0, 0.7, 1.0])
def test_bsarec_trains_the_branches_that_it_weighs(filter_weight):
    torch.manual_seed(0)
    options = {"feedforward": 2, "dropout": 0.5, "attention_dropout": 0.5, "heads": 2, "low_components": 3}
    backbone = randomised(BSARec(dim=DIM, max_len=MAX_LEN, layers=2, filter_weight=filter_weight, **options)).train()
    before = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
    x, mask = example()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1.0)
    backbone(x, mask)[:, -2].square().sum().backward()
    optimizer.step()
    still = {name for name, parameter in backbone.named_parameters() if torch.equal(parameter, before[name])}
    filters, attends = ("root_scale", "filter_norm"), ("query", "key_value", "output", "attention_norm")
    idle = filters * (filter_weight == 0) + attends * (filter_weight == 1)
    assert still == {name for name in before if name.startswith("layers") and name.split(".")[2] in idle}
    assert not any("low_pass" in name for name in backbone.state_dict())


@torch.no_grad()
def test_bsarec_begins_with_a_scale_of_the_high_frequencies_around_one():
    torch.manual_seed(0)
    options = {"feedforward": 1, "dropout": 0, "attention_dropout": 0, "heads": 1, "low_components": 3}
    layer = BSARec(dim=2000, max_len=3, layers=1, filter_weight=0.5, **options).layers[0]
    assert float(layer.root_scale.mean()) == pytest.approx(0, abs=0.1)
    assert float(layer.root_scale.square().mean()) == pytest.approx(1, abs=0.1)
