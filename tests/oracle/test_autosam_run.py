"""AutoSAM in use: what moves what, inference, controls, a sampler of another run."""

import math

import pytest
import torch
from autosam_setting import (
    BACKBONES,
    KEPT,
    LOSSES,
    batch_of,
    configure,
    default_positions,
    keep_probability,
    method_of,
    state_after,
)
from omegaconf import OmegaConf

from seqrec.batch import Batch
from seqrec.losses import next_item
from seqrec.methods.autosam import rewards
from seqrec.methods.autosam.autosam import AutoSAM
from seqrec.methods.autosam.sampler import fixed_uniform
from seqrec.methods.autosam.subsequence import compact
from seqrec.methods.base import ModelSpec
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import make

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
    method = make(values["method"], spec=ModelSpec(make(values["backbone"]), make(values["loss"]), 500, 128, 50))
    p = keep_probability(method, torch.randint(1, 501, (64, 50)))
    assert 0.4 < float(p.mean()) < 0.6
    assert float(p.std()) < 0.08
    # the query, key and value projections are three matrices of their own
    weight = method.sampler.block.query_key_value.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.02)


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
    # finished runs must be evaluated with the same draws as ever
    torch.testing.assert_close(
        fixed_uniform(1, 1, users[5:6], 2), torch.tensor([[[0.4362, 0.7964]]]), atol=5e-5, rtol=0
    )


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
    taken.on_start()
    for name, value in taken.sampler.state_dict().items():
        assert torch.equal(value, source.sampler.state_dict()[name])
    assert torch.equal(taken.items.weight, items)


def test_a_sampler_that_does_not_fit_is_refused(tmp_path):
    key = f"method.sampler_from={tmp_path}"
    with pytest.raises(UserError, match=r"method.sampler_from=.*best.pt"):
        method_of(key).on_start()
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"method.sampler_from=.*best.pt"):
        method_of(key).on_start()
    torch.save({"model": method_of("dim=16").state_dict()}, tmp_path / "best.pt")
    with pytest.raises(UserError, match=r"method.sampler_from=.*same dim"):
        method_of(key).on_start()
    torch.save({"model": method_of("method.policy=random").state_dict()}, tmp_path / "best.pt")
    with pytest.raises(UserError, match=r"method.sampler_from=.* is missing there and .*; give an AutoSAM run"):
        method_of(key).on_start()
    with pytest.raises(UserError, match=r"method.policy=last"):
        method_of(key, "method.policy=last")


@pytest.mark.parametrize("policy", ["random", "last"])
def test_a_control_may_keep_everything(policy):
    method = method_of(f"method.policy={policy}", "method.keep_rate=1").eval()
    batch = batch_of(method)
    assert torch.equal(method.probability(batch.seq), (batch.seq > 0).float())
    assert torch.isfinite(method.losses(batch)["loss"])


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
