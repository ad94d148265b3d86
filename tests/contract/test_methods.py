"""What every trained method of conf/method promises, on every backbone; its equations have oracles elsewhere."""

import functools
import importlib
from pathlib import Path

import pytest
import torch
from contract_setting import Contract
from job_setting import configure
from torch.utils.flop_counter import FlopCounterMode

from seqrec.augment import Views
from seqrec.batch import Batch
from seqrec.build import build, make_trainer

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
UNTRAINED = {"popularity", "markov", "itemknn", "counts"}
METHODS = sorted({path.stem for path in (CONF / "method").glob("*.yaml")} - UNTRAINED)
BACKBONES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml") if path.stem != "none")
AT_TEST = ("items.", "backbone.")  # what a score comes from
SMALL = (
    *("dataset.users=40", "dataset.items=80", "dataset.clusters=4", "dataset.max_length=20"),
    *("dim=8", "max_len=10", "trainer.batch_size=16"),
)


def contract(method: str) -> Contract:
    """Return what the test file of a method says of it."""
    return importlib.import_module(f"test_{method}").CONTRACT


@functools.cache
def config(method: str, backbone: str, *overrides: str):
    return configure(f"method={method}", f"backbone={backbone}", f"loss={contract(method).loss}", *overrides)


CASES = [  # what the other norms of SASRec change is tested with the backbones
    pytest.param(
        (method, backbone), id=f"{method}-{backbone}", marks=[pytest.mark.slow] * backbone.startswith("sasrec_")
    )
    for method in METHODS
    for backbone in BACKBONES
]


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def experiment(case):
    """A method in mid-training: past any warm-up, in its last stage, away from its initial values."""
    experiment = build(config(*case, *SMALL, *contract(case[0]).active))
    method = experiment.method
    method.on_stage(method.stages - 1)
    method.on_epoch(0)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if name.endswith("items.weight"):
                parameter[0] = 0
    return experiment


@pytest.fixture
def method(experiment):
    return experiment.method


@pytest.fixture
def batch(experiment):
    return next(experiment.loader.epoch(0))


def step(experiment, batch, seed=0):
    """Make one step with plain gradient descent; returns the logs and by group whether each parameter moved."""
    groups = {name: list(group.parameters) for name, group in experiment.method.param_groups().items()}
    before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}

    def update(loss, *names):
        optimizer = torch.optim.SGD([p for name in names or groups for p in groups[name]], lr=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    torch.manual_seed(seed)
    logs = experiment.method.train().optimize(batch, update)
    moved = {
        name: [not torch.equal(a, b) for a, b in zip(before[name], group, strict=True)]
        for name, group in groups.items()
    }
    return logs, moved


def rows(batch, chosen):
    """Return some rows of a batch."""
    negative = batch.negative
    if negative is not None and negative.dim() == 3:
        negative = negative[chosen]
    return Batch(batch.user[chosen], batch.seq[chosen], batch.target[chosen], batch.index[chosen], negative)


def scores(method, batch):
    with torch.no_grad():
        return method.eval().score(batch)


def test_groups_partition_the_parameters(method):
    grouped = [id(p) for group in method.param_groups().values() for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in method.parameters() if p.requires_grad}


def test_a_step_logs_scalars_and_moves_every_group(experiment, batch):
    logs, moved = step(experiment, batch)
    assert "loss" in logs
    for name, value in logs.items():
        assert value.dim() == 0, name
        assert torch.isfinite(value), name
    for name, group in moved.items():
        assert any(group), name
    assert not experiment.method.items.weight[0].any()


def test_a_step_is_a_function_of_seed_weights_and_batch(experiment, batch):
    state = {name: value.clone() for name, value in experiment.method.state_dict().items()}
    first = step(experiment, batch)[0]
    after = {name: value.clone() for name, value in experiment.method.state_dict().items()}
    experiment.method.load_state_dict(state)
    second = step(experiment, batch)[0]
    assert {name: value.item() for name, value in first.items()} == {name: v.item() for name, v in second.items()}
    assert all(torch.equal(after[name], value) for name, value in experiment.method.state_dict().items())


def test_scores_cover_the_catalogue_and_need_nothing_but_encoder_and_items(case, method, batch, monkeypatch):
    monkeypatch.setattr(Views, "__call__", lambda *_: pytest.fail("a view was made at test time"))
    found = scores(method, batch)
    assert found.shape == (len(batch.user), len(method.items.weight))
    needed = (*AT_TEST, *contract(case[0]).at_test)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith(needed):
                parameter.fill_(torch.nan)
    assert torch.equal(scores(method, batch), found)


def test_scores_do_not_depend_on_the_rest_of_the_batch(method, batch):
    together = scores(method, batch)
    order = torch.randperm(len(batch.user), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(scores(method, rows(batch, order)), together[order], atol=1e-5)
    for row in range(3):
        assert torch.allclose(scores(method, rows(batch, torch.tensor([row])))[0], together[row], atol=1e-5)


def test_scoring_costs_what_the_backbone_costs(case, method, batch):
    plain = build(config("plain", case[1], *SMALL)).method

    def cost(scored):
        with FlopCounterMode(display=False) as counter:
            scores(scored, batch)
        return counter.get_total_flops()

    ratio = cost(method) / cost(plain)
    if contract(case[0]).at_test:
        assert ratio < 2
    elif not method.backbone.causal:  # always as wide as its position table, which a method may have made longer
        longer = method.backbone.max_len / method.max_len
        assert 1 <= ratio <= longer ** (2 if case[1] == "bsarec" else 1)  # attention meets pairs of slots
    else:
        assert ratio == 1


def test_only_a_backbone_that_is_not_causal_may_leave_out_what_older_slots_need(case, method, batch):
    newest, run = [], method.backbone.run
    method.backbone.run = lambda x, positions, layout: newest.append(layout.newest) or run(x, positions, layout)
    scores(method, batch)
    assert all(newest)
    newest.clear()
    method.train().losses(batch)
    assert newest
    if method.backbone.causal:
        assert not any(newest)
    elif not hasattr(method, "contrast"):  # which compares all slots
        assert newest[0]


def test_a_saved_state_gives_the_same_scores(case, method, batch):
    other = build(config(*case, *SMALL, *contract(case[0]).active, "seed=2")).method
    other.load_state_dict(method.state_dict())
    if hasattr(method, "draw_seed"):
        other.draw_seed = method.draw_seed  # of what is drawn at test time; the run's seed otherwise
    assert torch.equal(scores(other, batch), scores(method, batch))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"plain"}))
def test_it_has_a_page_that_explains_every_key(name):
    pages = (name, *contract(name).pages)
    page = "".join((ROOT / "docs" / "methods" / f"{page}.md").read_text() for page in pages)
    keys = [key for key in config(name, "sasrec").method if not key.startswith("_") and key != "name"]
    assert [key for key in keys if f"`{key}" not in page and f"{key}`" not in page] == []


@pytest.mark.parametrize("name", METHODS)
def test_sparse_gradients_train_like_dense_ones_where_every_item_is_touched(name, tmp_path):
    few = (
        *contract(name).active,
        "loss=sampled_softmax",
        "loss.negatives=80",
        "trainer.max_epochs=2",
        "trainer.clip=.5",
    )
    few += ("method.stage2_epochs=1",) * (name == "cat")
    losses, tables = [], []
    for sparse in ("false", "true"):
        experiment = build(config(name, "sasrec", *SMALL, *few, "trainer.progress=false", f"trainer.sparse={sparse}"))
        trainer = make_trainer(experiment, tmp_path / sparse, lambda _: None)
        (tmp_path / sparse).mkdir()
        losses.append([entry["train/loss"] for entry in trainer.fit().history])
        tables.append([m.weight for m in experiment.method.modules() if isinstance(m, torch.nn.Embedding)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for dense, sparse in zip(*tables, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-3, atol=1e-4)
        if len(sparse) == 81:
            assert sparse.grad.is_sparse


# --- alive: after a short training on synthetic data each method does what makes it one

FEW = (
    *("dataset.users=400", "dataset.items=200", "dataset.clusters=8", "dim=32", "max_len=20", "trainer.batch_size=64"),
    *("trainer.progress=false", "trainer.plateau=null", "trainer.eval_every=100", "trainer.max_epochs=8"),
)
LONGER = {"gru4rec": ("trainer.max_epochs=20",)}
PREDICTION = [f"train/{name}" for name in ("next_item", "loss_clean", "subsequence_loss", "loss_t", "loss")]


@pytest.mark.parametrize("noise", [0.0, pytest.param(0.2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "backbone",
    ["sasrec", pytest.param("gru4rec", marks=pytest.mark.slow), pytest.param("fmlprec", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "plain")) for name in METHODS])
def test_it_trains_and_is_alive(name, backbone, noise, tmp_path):
    own = contract(name).longer
    longer = [*LONGER.get(backbone, ()), *own.get("", ()), *own.get(backbone, ())]
    experiment = build(config(name, backbone, *FEW, *longer, f"dataset.noise_share={noise}"))
    history = make_trainer(experiment, tmp_path, lambda _: None).fit().history
    prediction = next(key for key in PREDICTION if key in history[-1])
    assert history[-1][prediction] < history[0].get(prediction, history[0]["train/loss"])
    contract(name).alive(experiment, history[-1])
