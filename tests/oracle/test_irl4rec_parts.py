"""Irl4Rec's controls, what its parts move and cost, wrong values, and whether it is alive."""

import pytest
import torch
from job_setting import configure
from method_setting import Setting, gradients

from seqrec.build import build
from seqrec.data.loader import EvalLoader
from seqrec.methods.base import Method
from seqrec.methods.irl4rec.irl4rec import dependence
from seqrec.methods.popularity import Popularity


@pytest.fixture
def setting(sequences_of):
    def make(loss="bpr", backbone="sasrec", spread=0.5, **keys):
        return Setting("irl4rec", sequences_of, loss, backbone, batch_size=8, spread=spread, **keys)

    return make


def test_dependence_is_in_single_precision_under_autocast():
    torch.manual_seed(4)
    t, s = torch.randn(500, 8).bfloat16(), torch.randn(500, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = dependence(t, s)
    assert found.item() == pytest.approx(dependence(t.float(), s.float()).item(), rel=1e-5)


def test_control_with_an_idle_confounder(setting):
    case = setting(gamma=0, alpha=0, beta=0, spread=0)
    torch.manual_seed(3)
    plain = Method(case.spec)
    assert torch.equal(plain.items.weight, case.method.items.weight)  # the side of t begins where plain begins
    loss = case.method.losses(case.batch)["loss"]
    assert loss.item() == pytest.approx(plain.losses(case.batch)["loss"].item(), rel=1e-6)
    found = gradients(case.method, loss)
    assert all(g.abs().max() == 0 for name, g in found.items() if name.startswith("confounder."))
    wanted = gradients(plain, plain.losses(case.batch)["loss"])
    assert all(torch.allclose(found[name], gradient, atol=1e-7) for name, gradient in wanted.items())


def test_two_encoders_that_share_nothing_or_the_table(setting):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    apart, shared = setting().method, setting(shared_table=True).method
    encoder, table = count(apart.backbone), apart.items.weight.numel()
    assert count(apart) == 2 * (encoder + table)
    assert count(shared) == 2 * encoder + table
    assert shared.confounder.items is shared.items
    fresh = setting(spread=0).method
    assert not torch.equal(fresh.items.weight, fresh.confounder.items.weight)


def test_scores_come_from_the_preference_alone(setting):
    case = setting()
    case.method.eval()
    wanted = case.method.encode(case.batch.seq)[:, -1] @ case.method.items.weight.T
    with torch.no_grad():
        for parameter in case.method.confounder.parameters():
            parameter.normal_()
    assert torch.equal(case.method.score(case.batch), wanted)


def test_each_encoder_runs_once_a_step(setting):
    case, passes = setting(loss="sampled_softmax"), []
    for backbone in (case.method.backbone, case.method.confounder.backbone):
        run = backbone.run
        backbone.run = lambda *arguments, b=backbone, run=run: passes.append(b) or run(*arguments)
    case.method.losses(case.batch)["loss"].backward()
    assert passes == [case.method.backbone, case.method.confounder.backbone]


@pytest.mark.parametrize("variant", ["bottleneck", "independence"])
def test_an_optimiser_step_moves_both_sides(setting, variant):
    method, batch = (case := setting(variant=variant)).method, case.batch
    before = {name: value.clone() for name, value in method.named_parameters()}
    optimizer = torch.optim.SGD(method.param_groups()["model"].parameters, lr=0.1)

    def update(loss):
        loss.backward()
        optimizer.step()

    method.optimize(batch, update)
    assert all(not torch.equal(value, before[name]) for name, value in method.named_parameters())
    assert (method.items.weight[0] == 0).all()


# --- alive


def trained(epochs, *overrides, method="irl4rec"):
    """Train on synthetic data; returns the experiment."""
    small = ("dataset.users=1000", "dataset.items=400", "dataset.clusters=16", "backbone.layers=1", "dim=32")
    experiment = build(configure(f"method={method}", "loss=bpr", "trainer.threads=1", *small, *overrides))
    method = experiment.method.train()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.002)

    def update(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for epoch in range(epochs):
        for batch in experiment.loader.epoch(epoch):
            method.optimize(batch, update)
    return experiment


def ndcg(experiment):
    """Return validation NDCG@10 of popularity, t and s."""
    method = experiment.method
    popularity = Popularity(experiment.dataset.num_items, experiment.config.max_len)
    popularity.setup(experiment.split.train)
    ranks = [
        experiment.evaluator.ranks(scorer, experiment.split.valid, torch.device("cpu"))
        for scorer in (popularity, method, method.confounder)
    ]
    return [experiment.evaluator.metrics(rank)["NDCG@10"] for rank in ranks]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_alive(noise):
    popular, t, s = ndcg(trained(20, f"dataset.noise_share={noise}"))
    print(f"noise {noise}: NDCG@10 of popularity {popular:.4f}, t {t:.4f}, s {s:.4f}")
    assert t > 1.5 * popular
    assert s > 1.5 * popular


@pytest.mark.slow
def test_a_confounder_whose_loss_is_maximised_dies():
    popular, t, s = ndcg(trained(20, "method.alpha=0.05"))
    print(f"alpha .05: NDCG@10 of popularity {popular:.4f}, t {t:.4f}, s {s:.4f}")
    assert t > 1.5 * popular
    assert s < popular


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_style_is_read_from_the_preference_and_from_the_confounder(seed, script):
    """Items' style goes with their users' in the training part (docs/synthetic.md): from which side can it be read?"""
    shortcut = ("dataset.spurious_strength=0.8", f"dataset.seed={seed}", f"seed={seed}")
    experiment, plain = trained(20, *shortcut), trained(20, *shortcut, method="plain").method
    style = torch.from_numpy(experiment.dataset.attributes["style"][:, 0]).long()
    histories = [batch.seq for _, batch in EvalLoader(experiment.split.valid, 256, plain.max_len)]
    found = {}
    for name, side in (("t", experiment.method), ("s", experiment.method.confounder), ("plain", plain)):
        probes = script("attribute_probe").probes(side.eval(), histories, style)
        found[name] = [accuracy for accuracy, _ in probes]
    print(", ".join(f"{name}: users' style {user:.2f}, items' {item:.2f}" for name, (user, item) in found.items()))
    assert min(accuracy for both in found.values() for accuracy in both) > 0.8
