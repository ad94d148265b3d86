"""Irl4Rec's objective against sections 3 and 4 of its page, slot by slot."""

import math

import pytest
import torch
from contract_setting import Contract
from method_setting import DIM, ITEMS, LOSSES, NO_DROPOUT, Setting, gradients, slot_loss

from seqrec.methods.base import Method
from seqrec.methods.irl4rec.irl4rec import dependence, gaussian_divergence
from seqrec.methods.popularity import Popularity


@pytest.fixture
def setting(sequences_of):
    def make(loss="bpr", backbone="sasrec", spread=0.5, **keys):
        return Setting("irl4rec", sequences_of, loss, backbone, batch_size=8, spread=spread, **keys)

    return make


def chance(name, others):
    """Loss of a slot whose scores are all 0, in closed form."""
    n = len(others)
    rate = n / (ITEMS - 1)
    return {
        "bce": 2 * math.log(2),
        "bpr": math.log(2),
        "gbce": (rate * (0.75 * (1 - 1 / rate) + 1 / rate) + n) * math.log(2) / (n + 1),
        "sampled_softmax": math.log(1 + n),
        "cross_entropy": math.log(ITEMS),
    }[name]


class Oracle:
    """Everything of section 3 and 4, by loops over the supervised slots."""

    def __init__(self, method, loss, batch, noise=None):
        self.mask, slots = batch.seq > 0, batch.target > 0
        self.sides = [(method.items.weight, method.backbone)]
        if method.confounder is not None:
            self.sides.append((method.confounder.items.weight, method.confounder.backbone))
        self.rows = [table[batch.seq][self.mask] for table, _ in self.sides]
        self.mean, *rest = (backbone(table[batch.seq], self.mask)[slots] for table, backbone in self.sides)
        t = self.mean if noise is None else self.mean + (method.log_variance(self.mean) / 2).exp() * noise
        self.states = [t, *rest]
        self.target = batch.target[slots].tolist()
        self.losses, bound = [[], [], []], None
        for slot, item in enumerate(self.target):
            if loss == "cross_entropy":
                others = [other for other in range(1, ITEMS + 1) if other != item]
            elif loss == "sampled_softmax":
                others = [other for other in batch.negative.tolist() if other != item]
            else:
                others = batch.negative[slots][slot].tolist()
            bound = 2 * chance(loss, others) if bound is None else bound
            scores = [[state[slot] @ table[i] for i in (item, *others)] for state, (table, _) in self.both()]
            if len(scores) == 2:
                scores.append([one + two for one, two in zip(*scores, strict=True)])
            for values, (own, *other) in zip(self.losses, scores, strict=False):
                values.append(slot_loss(loss, own, other))
        self.bound = bound

    def both(self):
        return zip(self.states, self.sides, strict=True)

    def mean_loss(self, which, bounded=False):
        values = [value.clamp(max=self.bound) if bounded else value for value in self.losses[which]]
        return sum(values) / len(values)

    def squares(self, vectors):
        return sum((vector**2).sum() for vector in vectors) / len(vectors)

    def penalty(self):
        return sum(self.squares(part) for part in (*self.states, *self.rows))


def check(case, loss, logs, objective, **parts):
    precise = loss != "cross_entropy"  # its chunks are in single precision
    for name, wanted in {"loss": objective, **parts}.items():
        assert logs[name].item() == pytest.approx(wanted.item(), rel=1e-9 if precise else 2e-5), name
    mine, wanted = gradients(case.method, logs["loss"]), gradients(case.method, objective)
    for name, gradient in wanted.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-4, atol=1e-9 if precise else 1e-5), name
    return wanted


# --- section 3: the objective (*)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backbone", NO_DROPOUT)
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_the_objective_and_its_gradients(setting, loss, backbone, alpha):
    gamma, beta = 0.3, 0.01
    case = setting(loss, backbone, gamma=gamma, alpha=alpha, beta=beta)
    method = case.method if loss == "cross_entropy" else case.method.double()
    with torch.no_grad():
        method.confounder.items.weight.mul_(4)  # some slots of s pass the bound
    oracle = Oracle(method, loss, case.batch)
    bounded = alpha < gamma  # a loss that is minimised needs no bound
    t, s, ts = oracle.mean_loss(0), oracle.mean_loss(1, bounded), oracle.mean_loss(2)
    objective = (1 - gamma) * t - (gamma - alpha) * s + gamma * ts + beta * oracle.penalty()
    logs = method.losses(case.batch)
    wanted = check(case, loss, logs, objective, loss_t=t, loss_s=s, loss_ts=ts, l2=oracle.penalty())
    assert all(gradient.abs().max() > 0 for gradient in wanted.values())  # both encoders and both tables are moved
    if bounded:
        above = [value.item() > oracle.bound for value in oracle.losses[1]]
        assert logs["at_bound"].item() == pytest.approx(sum(above) / len(above))
        assert 0 < sum(above) < len(above), "the case does not test the bound"
    else:
        assert "at_bound" not in logs


def test_two_sides_are_one_wide_model(setting):
    case = setting()
    method, batch = case.method, case.batch
    wide = torch.cat([method.encode(batch.seq), method.confounder.encode(batch.seq)], -1)
    table = torch.cat([method.items.weight, method.confounder.items.weight], -1)
    slots = batch.target > 0
    wanted = method.loss(wide[slots], batch.target[slots], table, batch.negative[slots])
    assert method.losses(batch)["loss_ts"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_bound_by_hand(setting):
    # page, section 3: margins t = +M, s = -m make J fall without end; with the bound it cannot pass -(gamma - alpha) 2 ln 2
    case = setting(alpha=0.0, gamma=0.1)
    with torch.no_grad():
        case.method.confounder.items.weight.mul_(1e4)
    logs = case.method.losses(case.batch)
    share = logs["at_bound"].item()
    assert 0 < share < 1
    # with margins this wide a slot of two negatives has loss 0 or lies far above 2 ln 2
    assert logs["loss_s"].item() == pytest.approx(share * 2 * math.log(2), rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_chance_level(setting, loss):
    case = setting(loss)
    slots = case.batch.target > 0
    negative = case.batch.negative
    if negative is not None and negative.dim() == 3:
        negative = negative[slots]
    others = range(ITEMS - 1)
    if negative is not None:
        first = case.batch.target[slots][0]
        others = negative[0] if negative.dim() == 2 else negative[negative != first]
    found = case.method.chance_level(case.batch.target[slots], negative).item()
    assert found == pytest.approx(chance(loss, list(others)), rel=1e-6)


@pytest.mark.parametrize("keys", [{"l2_items": False}, {"l2_confounder": False}, {"shared_table": True}])
@pytest.mark.parametrize("backbone", ["sasrec", "fmlprec"])
def test_what_the_penalty_covers(setting, keys, backbone):
    case = setting(backbone=backbone, beta=0.1, **keys)
    oracle = Oracle(case.method, "bpr", case.batch)
    t, s = (oracle.squares(state) for state in oracle.states)
    rows_t = oracle.squares(oracle.rows[0])
    wanted = {
        "l2_items": t + s,
        "l2_confounder": t + rows_t,
        "shared_table": t + s + rows_t,  # one table: its rows count once
    }[next(iter(keys))]
    assert case.method.losses(case.batch)["l2"].item() == pytest.approx(wanted.item(), rel=1e-5)


# --- section 4: variants and controls


@pytest.mark.parametrize("loss", ["bpr", "cross_entropy"])
def test_explicit_independence(setting, loss):
    case = setting(loss, variant="independence", gamma=0.6, alpha=0.4, beta=0.01)
    method = case.method if loss == "cross_entropy" else case.method.double()
    oracle = Oracle(method, loss, case.batch)
    t, s = oracle.states
    n, total = len(t), 0.0
    for i in range(DIM):
        for j in range(DIM):
            a, b = t[:, i] - sum(t[:, i]) / n, s[:, j] - sum(s[:, j]) / n
            total = total + ((a @ b) / (a @ a).sqrt() / (b @ b).sqrt()) ** 2
    distance = total / DIM**2
    objective = oracle.mean_loss(0) + 0.4 * oracle.mean_loss(1) + 0.01 * oracle.penalty() + 0.6 * distance
    logs = method.losses(case.batch)
    check(case, loss, logs, objective, dependence=distance, loss_s=oracle.mean_loss(1))
    assert "loss_ts" not in logs


def test_dependence_is_no_orthogonality():
    torch.manual_seed(0)
    t, noise = torch.randn(20_000, 2), torch.randn(20_000, 2)
    turned = torch.stack([-t[:, 1], t[:, 0]], 1)  # orthogonal to t in every row, and a function of it
    assert (t * turned).sum(1).abs().max() < 1e-6
    assert dependence(t, turned).item() == pytest.approx(0.5, abs=0.01)
    assert dependence(t, noise).item() < 1e-3
    assert dependence(t[:, :1], 5 - 3 * t[:, :1]).item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(dependence(t[:1], noise[:1]))


def test_control_with_one_encoder_and_l2(setting):
    case = setting(variant="l2", beta=0.1)
    assert case.method.confounder is None
    plain = Method(case.spec)
    assert sum(p.numel() for p in case.method.parameters()) == sum(p.numel() for p in plain.parameters())
    oracle = Oracle(case.method.double(), "bpr", case.batch)
    check(case, "bpr", case.method.losses(case.batch), oracle.mean_loss(0) + 0.1 * oracle.penalty())


# --- the sampled representation


def test_gaussian_divergence():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).sum(-1).mean()
    assert gaussian_divergence(mean, log_variance).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_sampled_preference(setting):
    gamma, alpha, beta = 0.3, 0.1, 0.02
    case = setting(variational=True, gamma=gamma, alpha=alpha, beta=beta)
    method, batch = case.method.double(), case.batch
    torch.manual_seed(7)
    noise = torch.randn(int((batch.target > 0).sum()), DIM, dtype=torch.double)
    oracle = Oracle(method, "bpr", batch, noise)
    log_variance = method.log_variance(oracle.mean)
    divergence = 0
    for mu, lv in zip(oracle.mean, log_variance, strict=True):
        divergence = divergence + sum(m**2 + v.exp() - v - 1 for m, v in zip(mu, lv, strict=True)) / 2 / len(noise)
    penalty = divergence + oracle.squares(oracle.states[1]) + sum(oracle.squares(rows) for rows in oracle.rows)
    objective = (
        (1 - gamma) * oracle.mean_loss(0)
        - (gamma - alpha) * oracle.mean_loss(1, bounded=True)
        + gamma * oracle.mean_loss(2)
        + beta * penalty
    )
    torch.manual_seed(7)
    check(case, "bpr", method.losses(batch), objective, l2=penalty)
    assert torch.equal(method.score(batch), method.score(batch))  # the mean: nothing is drawn
    fresh = setting(variational=True, spread=0).method.log_variance(torch.randn(2, DIM))
    assert torch.equal(fresh, torch.full((2, DIM), -4.0))


# --- what tests/contract asks


def alive(experiment, log):
    """The confounder ranks better than popularity."""
    evaluator, split = experiment.evaluator, experiment.split
    popular = Popularity(experiment.dataset.num_items, experiment.method.max_len)
    popular.setup(split.train)
    least, of_s = (
        evaluator.metrics(evaluator.ranks(method, split.valid, torch.device("cpu")))["NDCG@10"]
        for method in (popular, experiment.method.confounder)
    )
    assert of_s > least


CONTRACT = Contract(
    alive,
    longer={
        "": ("dataset.users=1200", "dataset.items=600", "dataset.clusters=20"),
        "gru4rec": ("trainer.optimizer.lr=0.005", "trainer.max_epochs=24"),
    },
    loss="bpr",
)
