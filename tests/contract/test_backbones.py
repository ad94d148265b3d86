"""What every backbone of conf/backbone promises, whatever it computes; its equations have oracles elsewhere."""

import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path

import pytest
import torch
from job_setting import configure
from omegaconf import OmegaConf
from torch import nn

import seqrec.backbones
from seqrec.backbones import layout
from seqrec.backbones.base import Backbone
from seqrec.backbones.fixed_length import FixedLength
from seqrec.utils.instantiate import locate, make

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
NAMES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml") if path.stem != "none")
DIM, MAX_LEN = 8, 9
SWITCHES = {
    "sasrec": [
        (f"norm_first={norm}", f"count_from={count}", f"scale_embedding={scale}")
        for norm, count, scale in itertools.product(("true", "false", "original"), ("start", "end"), ("true", "false"))
    ],
    "gru4rec": [("layers=1",), ("layers=2",)],
}
CASES = [(name, switches) for name in NAMES for switches in SWITCHES.get(name, [()])]
FILTER_ALONE = {"fmlprec"}  # does not tell a hole from a zero item
LENGTHS = (4, 1, 9, 7, 2, 9, 5)


@functools.cache
def node(name: str, switches: tuple[str, ...]) -> dict:
    config = configure(f"backbone={name}", *(f"backbone.{switch}" for switch in switches))
    return OmegaConf.to_container(config.backbone, resolve=True)


def build(case, max_len=MAX_LEN) -> Backbone:
    """Return the backbone with large random weights in double precision: with small ones a leak would drown."""
    torch.manual_seed(0)
    backbone = make(node(*case))(dim=DIM, max_len=max_len).double()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.5)
    return backbone.eval()


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def case(request):
    return request.param


@pytest.fixture
def backbone(case):
    return build(case)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, DIM, dtype=torch.double, generator=generator) for length in LENGTHS]


def pad(rows, width):
    """Left-pad rows with noise, which nobody may read; returns x [B, T, D] and mask [B, T]."""
    x = torch.randn(len(rows), width, DIM, dtype=torch.double)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        if len(row):
            x[number, -len(row) :] = row
            mask[number, -len(row) :] = True
    return x, mask


def with_holes(rows):
    """Take about a third of the slots out of mask [B, T], the newest slot of the first row and the oldest of the third among them."""
    x, mask = pad(rows, MAX_LEN)
    holes = torch.rand(mask.shape, generator=torch.Generator().manual_seed(2)) < 0.35
    holes[0, -1] = holes[2, 0] = True
    holes[1] = False
    return x, mask & ~holes


def test_every_backbone_has_a_config_a_contract_and_an_oracle():
    classes = set()
    for module in pkgutil.iter_modules(seqrec.backbones.__path__, "seqrec.backbones."):
        members = vars(importlib.import_module(module.name)).values()
        classes |= {member for member in members if inspect.isclass(member) and issubclass(member, Backbone)}
    assert {locate(node(*case)["_target_"]) for case in CASES} == classes - {Backbone, FixedLength}
    assert {name for name, _ in CASES} == set(NAMES) >= {"sasrec", "gru4rec", "fmlprec", "bsarec"}
    written = {locate(node(name, ())["_target_"]).__module__.rpartition(".")[2] for name in NAMES}
    assert {f"test_{module}" for module in written} <= {
        path.stem for path in (ROOT / "tests" / "oracle").glob("test_*.py")
    }


def test_states_do_not_depend_on_padding_or_on_the_other_rows(backbone, rows):
    states = backbone(*pad(rows, MAX_LEN))
    chosen = [4, 0, 3]
    fewer = backbone(*pad([rows[number] for number in chosen], 7))
    for place, number in enumerate(chosen):
        length = LENGTHS[number]
        torch.testing.assert_close(fewer[place, -length:], states[number, -length:])
    for number, row in enumerate(rows):
        torch.testing.assert_close(backbone(*pad([row], len(row)))[0], states[number, -len(row) :])
    again = backbone(*pad(rows[::-1], MAX_LEN))
    torch.testing.assert_close(again.flip(0), states)


def test_the_newest_state_alone_is_the_newest_of_all(backbone, rows):
    (x, mask), newest = with_holes(rows), {}
    for alone in (False, True):
        inputs = x.clone().requires_grad_()
        chosen = dataclasses.replace(backbone.layout(mask), newest=alone)
        cells = backbone.run(chosen.gather(inputs), chosen.gather(backbone.positions(mask)), chosen)
        state = chosen.scatter(cells)[:, -1]
        newest[alone] = state, *torch.autograd.grad(state.square().sum(), [inputs, *backbone.parameters()])
    assert newest[False][0].any()
    for value, expected in zip(newest[True], newest[False], strict=True):
        torch.testing.assert_close(value, expected)


def test_content_of_a_masked_slot_does_not_matter(backbone, rows):
    x, mask = with_holes(rows)
    states = backbone(x, mask)
    noisy = torch.where(mask[..., None], x, torch.randn_like(x))
    assert torch.equal(backbone(noisy, mask), states)


def test_a_hole_can_be_closed_where_positions_are_kept(case, backbone, rows):
    x, mask = with_holes(rows)
    states = backbone(x, mask)
    if not backbone.causal:  # it works on padding
        filled = backbone(x * mask[..., None], torch.ones_like(mask))
        assert torch.allclose(filled[mask], states[mask]) == (case[0] in FILTER_ALONE)
        return
    positions = backbone.positions(mask)
    closed_x, closed = pad([row[own] for row, own in zip(x, mask, strict=True)], MAX_LEN)
    kept = torch.zeros_like(positions)
    kept[closed] = positions[mask]
    torch.testing.assert_close(backbone(closed_x, closed, kept)[closed], states[mask])


def test_a_state_sees_later_slots_only_where_the_backbone_says_so(backbone, rows):
    x, mask = with_holes(rows)
    states = backbone(x, mask)
    for slot in range(1, MAX_LEN):
        noisy = x.clone()
        noisy[:, slot:] += torch.randn_like(noisy[:, slot:])
        moved = (backbone(noisy, mask) - states).abs().amax(-1) > 1e-9
        perturbed = mask.clone()
        perturbed[:, :slot] = False
        assert moved[perturbed].all()
        earlier = mask & ~perturbed & perturbed.any(1, keepdim=True)
        if backbone.causal:
            assert not moved[earlier].any()
        else:
            assert moved[earlier].all()


def test_a_state_sees_every_older_item(backbone, rows):
    x, mask = pad(rows, MAX_LEN)
    states = backbone(x, mask)
    for slot in range(MAX_LEN - 1):
        noisy = x.clone()
        noisy[:, slot] += torch.randn(DIM, dtype=torch.double)
        moved = (backbone(noisy, mask)[:, -1] - states[:, -1]).abs().amax(-1) > 1e-12
        assert torch.equal(moved, mask[:, slot])


def test_gradient_reaches_every_parameter_and_every_real_item(backbone, rows):
    x, mask = with_holes(rows)
    x.requires_grad_()
    states = backbone(x, mask)
    (states * torch.randn_like(states)).sum().backward()
    unreached = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []
    assert torch.equal(x.grad.abs().amax(-1) > 0, mask)


def test_default_positions(backbone, rows):
    _, mask = with_holes(rows)
    mask = mask[:, 1:]
    expected = torch.zeros(mask.shape, dtype=torch.long)
    for row, own in enumerate(mask.tolist()):
        oldest = own.index(True)
        for slot in range(len(own)):
            distance = len(own) - 1 - slot
            expected[row, slot] = MAX_LEN - 1 - distance if backbone.count_from == "end" else slot - oldest
    assert torch.equal(backbone.positions(mask)[mask], expected[mask])
    assert backbone.positions(mask).min() >= 0


def test_explicit_positions_are_respected(case, backbone, rows):
    x, mask = with_holes(rows)
    states = backbone(x, mask)
    torch.testing.assert_close(backbone(x, mask, backbone.positions(mask)), states)
    other = backbone.positions(mask).flip(1)
    if not hasattr(backbone, "position"):
        assert torch.equal(backbone(x, mask, other), states)
        return
    swapped = build(case)
    with torch.no_grad():
        swapped.position.weight.copy_(backbone.position.weight.flip(0))
    if backbone.causal:  # the position of padding is the affair of a backbone that works on it
        moved = (backbone(x, mask, other) - states).abs().amax(-1) > 1e-9
        assert moved[mask & (other != backbone.positions(mask))].all()
        mirrored = MAX_LEN - 1 - backbone.positions(mask)
        torch.testing.assert_close(swapped(x, mask, mirrored), states)
    else:
        torch.testing.assert_close(swapped(x, mask, other), states)


class Recorder(nn.Module):
    """Stands for a dropout: scales and remembers what it met."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.shapes = scale, []

    def forward(self, x):
        self.shapes.append(x.shape)
        return x * self.scale


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_dropout_of_a_layer_can_be_replaced(backbone, rows, mode):
    x, mask = pad(rows, MAX_LEN)
    states = backbone(x, mask)
    getattr(backbone, mode)()
    assert all(isinstance(layer.dropout, nn.Dropout) and layer.dropout.p > 0 for layer in backbone.layers)
    recorders = [Recorder(1.0) for _ in backbone.layers]
    for layer, recorder in zip(backbone.layers, recorders, strict=True):
        layer.dropout = recorder
    for passes in (1, 2):
        backbone(x, mask)
        assert [len(recorder.shapes) for recorder in recorders] == [passes] * len(backbone.layers)
    backbone.eval()
    torch.testing.assert_close(backbone(x, mask), states)
    for recorder in recorders:
        recorder.scale = 0.5
        assert not torch.allclose(backbone(x, mask), states)
        recorder.scale = 1.0


def test_masked_slots_come_out_zero(backbone, rows):
    x, mask = with_holes(rows)
    states = backbone(x, mask)
    assert states.shape == x.shape
    assert torch.equal(states.abs().amax(-1) > 0, mask)


def test_a_row_without_items_breaks_nothing(backbone, rows):
    states = backbone(*pad(rows, MAX_LEN))
    none = rows[0][:0]
    for place in (0, 3, len(rows)):
        more = backbone(*pad([*rows[:place], none, *rows[place:]], MAX_LEN))
        assert not more[place].any()
        torch.testing.assert_close(torch.cat([more[:place], more[place + 1 :]]), states)


def test_a_batch_without_items_comes_out_zero(backbone, rows):
    x, mask = pad([rows[0][:0]] * 2, MAX_LEN)
    states = backbone(x, mask)
    assert states.shape == x.shape
    assert not states.any()


def test_more_slots_can_be_asked_of_the_factory(case, rows):
    longer = build(case, MAX_LEN + 3)
    generator = torch.Generator().manual_seed(3)
    full = torch.randn(MAX_LEN + 3, DIM, dtype=torch.double, generator=generator)
    states = longer(*pad([*rows, full], MAX_LEN + 3))
    assert states[-1].abs().amax(-1).min() > 0
    for width in (MAX_LEN, MAX_LEN + 2):
        torch.testing.assert_close(longer(*pad(rows, width))[:, -MAX_LEN:], states[:-1, -MAX_LEN:])


def test_dropout_acts_in_training_alone(backbone, rows):
    x, mask = pad(rows, MAX_LEN)
    assert torch.equal(backbone(x, mask), backbone(x, mask))
    states = backbone(x, mask)
    rates = [(module, "p") for module in backbone.modules() if isinstance(module, nn.Dropout)]
    rates += [(layer, "attention_dropout") for layer in backbone.layers if hasattr(layer, "attention_dropout")]
    assert any(getattr(module, name) > 0 for module, name in rates)
    for module, name in rates:
        setattr(module, name, 0.0)
    torch.testing.assert_close(backbone.train()(x, mask), states)
    for module, name in rates:
        setattr(module, name, 0.5)
        assert not torch.allclose(backbone.train()(x, mask), states)
        assert torch.equal(backbone.eval()(x, mask), states)
        setattr(module, name, 0.0)


def test_one_block_of_all_rows_gives_the_same_states(backbone, rows, monkeypatch):
    """An accelerator runs over one block; on this machine only the cutting of blocks decides about that."""
    x, mask = with_holes([*rows, rows[0][:0]])
    states = backbone(x, mask)
    monkeypatch.setattr(layout, "falling_groups", lambda lengths, bound: [(0, len(lengths))])
    torch.testing.assert_close(backbone(x, mask), states)
