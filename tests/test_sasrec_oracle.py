"""The equations of the backbones, written out slowly: loops over rows, slots, heads and frequencies."""

import math

import pytest
import torch
from torch import nn

from seqrec.backbones import gru4rec
from seqrec.backbones.bsarec import BSARec
from seqrec.backbones.fmlprec import FMLPRec
from seqrec.backbones.gru4rec import GRU4Rec
from seqrec.backbones.sasrec import SASRec

DIM, MAX_LEN = 6, 8


def randomised(backbone):
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.4)
    return backbone.double().eval()


def example(rows=5, width=MAX_LEN):
    torch.manual_seed(7)
    x = torch.randn(rows, width, DIM, dtype=torch.double)
    mask = torch.rand(rows, width) < 0.6
    mask[:, -2] = True
    mask[0] = True
    return x, mask


def layer_norm(vector, norm):
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    return (vector - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def gelu(vector):
    return vector * 0.5 * (1 + torch.erf(vector / math.sqrt(2)))


def relu(vector):
    return torch.where(vector > 0, vector, 0.0)


def feed_forward(vector, layer, activation):
    inner = activation(layer.inner.weight @ vector + layer.inner.bias)
    return layer.outer.weight @ inner + layer.outer.bias


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


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_gru4rec(monkeypatch, layers):
    torch.manual_seed(0)
    options = {"hidden": 7, "layers": layers, "embedding_dropout": 0.5, "dropout": 0.5}
    backbone = randomised(GRU4Rec(dim=DIM, max_len=MAX_LEN, **options))
    reference = nn.GRU(DIM, 7, layers, batch_first=True).double()
    for number, layer in enumerate(backbone.layers):
        for name, parameter in layer.recurrent.named_parameters():
            getattr(reference, name.replace("l0", f"l{number}")).copy_(parameter)
    monkeypatch.setattr(gru4rec, "STEPS", 3)
    x, mask = example()
    states = backbone(x, mask)
    for row in range(len(x)):
        hidden = reference(x[row, mask[row]][None])[0][0]
        torch.testing.assert_close(states[row, mask[row]], hidden @ backbone.project.weight.T + backbone.project.bias)


def test_the_gradient_of_gru4rec_reaches_back_through_all_pieces(monkeypatch):
    torch.manual_seed(0)
    backbone = randomised(GRU4Rec(dim=DIM, max_len=MAX_LEN, hidden=7, layers=2, embedding_dropout=0, dropout=0))
    x, mask = example()
    gradients = []
    for steps in (3, MAX_LEN):
        monkeypatch.setattr(gru4rec, "STEPS", steps)
        inputs = x.clone().requires_grad_()
        newest = backbone(inputs, mask)[:, -2]
        gradients.append(torch.autograd.grad(newest.square().sum(), [inputs, *backbone.parameters()]))
    assert gradients[1][0][0, 0].any()
    for piecewise, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(piecewise, whole)


def test_gru4rec_takes_memory_in_proportion_to_the_length_of_a_row():
    backbone = GRU4Rec(dim=DIM, max_len=200, hidden=32, layers=1, embedding_dropout=0, dropout=0)
    allocated = []
    for width in (50, 200):
        states = backbone(torch.randn(4, width, DIM), torch.ones(4, width, dtype=torch.bool))
        with torch.profiler.profile(profile_memory=True) as profile:
            states.sum().backward()
        allocated.append(sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages()))
    assert allocated[1] < 6 * allocated[0]


@torch.no_grad()
def test_gru4rec_begins_orthogonal_and_with_zero_bias():
    torch.manual_seed(0)
    recurrent = GRU4Rec(dim=DIM, max_len=3, hidden=5, layers=1, embedding_dropout=0, dropout=0).layers[0].recurrent
    for gate in recurrent.weight_hh_l0.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5))
    for gate in recurrent.weight_ih_l0.chunk(3):
        assert 0 < gate.abs().max() <= math.sqrt(6 / (DIM + 5))
    assert not recurrent.bias_ih_l0.any()
    assert not recurrent.bias_hh_l0.any()


def kernel(spectrum, length):
    """Impulse response [L][D] of a half spectrum [L // 2 + 1, D, 2], by the inverse DFT with Hermitian symmetry."""
    taps = []
    for t in range(length):
        tap = torch.zeros(DIM, dtype=torch.double)
        for frequency in range(length):
            mirrored = frequency > length // 2
            real, imaginary = spectrum[length - frequency if mirrored else frequency].T
            own_mirror = frequency == 0 or 2 * frequency == length
            imaginary = 0 * imaginary if own_mirror else (-imaginary if mirrored else imaginary)
            angle = 2 * math.pi * frequency * t / length
            tap += (real * math.cos(angle) - imaginary * math.sin(angle)) / length
        taps.append(tap)
    return taps


@pytest.mark.parametrize("max_len", [MAX_LEN, MAX_LEN - 1])
@torch.no_grad()
def test_fmlprec(max_len):
    torch.manual_seed(0)
    options = {"layers": 2, "feedforward": 2, "embedding_dropout": 0.5, "dropout": 0.5}
    backbone = randomised(FMLPRec(dim=DIM, max_len=max_len, **options))
    x, mask = example(width=max_len - 2)
    states = backbone(x, mask)
    for row in range(len(x)):
        real = [x[row, slot] * float(mask[row, slot]) for slot in range(max_len - 2)]
        slots = [torch.zeros(DIM, dtype=torch.double)] * 2 + real
        slots = [layer_norm(s + backbone.position.weight[at], backbone.norm) for at, s in enumerate(slots)]
        for layer in backbone.layers:
            taps = kernel(layer.filter, max_len)
            filtered = [
                sum(taps[(now - then) % max_len] * slots[then] for then in range(max_len)) for now in range(max_len)
            ]
            slots = [layer_norm(s + f, layer.filter_norm) for s, f in zip(slots, filtered, strict=True)]
            slots = [layer_norm(s + feed_forward(s, layer, gelu), layer.feedforward_norm) for s in slots]
        torch.testing.assert_close(states[row, mask[row]], torch.stack(slots[2:])[mask[row]])


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


@torch.no_grad()
def test_weights_begin_small_and_without_bias():
    torch.manual_seed(0)
    common = {"dim": 64, "max_len": 50, "layers": 1, "feedforward": 4, "dropout": 0.0}
    sasrec = SASRec(
        **common,
        heads=2,
        activation="gelu",
        attention_dropout=0.0,
        inner_dropout=0.0,
        norm_first=True,
        scale_embedding=True,
        count_from="start",
    )
    bsarec = BSARec(**common, heads=2, filter_weight=0.5, low_components=5, attention_dropout=0.0)
    for backbone in (sasrec, FMLPRec(**common, embedding_dropout=0.0), bsarec):
        for module in backbone.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                assert float(module.weight.std()) == pytest.approx(0.02, rel=0.1)
            if isinstance(module, nn.Linear):
                assert not module.bias.any()


@pytest.mark.parametrize("name", ["fmlprec", "bsarec"])
def test_embeddings_are_dropped_out_after_the_norm(name):
    if name == "fmlprec":
        backbone = FMLPRec(DIM, MAX_LEN, layers=1, feedforward=2, embedding_dropout=0.5, dropout=0.0).train()
    else:
        backbone = BSARec(DIM, MAX_LEN, 1, 2, 0.7, 3, feedforward=2, dropout=0.5, attention_dropout=0.0).train()
    seen = []
    backbone.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, mask = example(rows=50)
    backbone.double()(x, mask)
    assert (seen[0] == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)  # a norm leaves no zeros
