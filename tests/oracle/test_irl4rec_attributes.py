"""Irl4Rec whose confounder scores by the attributes of items, and the weight of independence relative to the loss."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from method_setting import DIM, ITEMS, Setting
from test_irl4rec import Oracle, check

from seqrec.methods.irl4rec.attribute_items import AttributeItems
from seqrec.methods.irl4rec.irl4rec import dependence
from seqrec.utils.errors import UserError

GENERATOR = np.random.default_rng(1)
BRAND = np.concatenate([[[0]], GENERATOR.integers(1, 4, (ITEMS, 1))])
TAGS = np.concatenate([[[0, 0, 0]], GENERATOR.integers(0, 6, (ITEMS, 3))])  # some slots are empty
TAGS[5] = 0
ATTRIBUTES = {"brand": BRAND.astype(np.int32), "tags": TAGS.astype(np.int32)}


@pytest.fixture
def setting(sequences_of):
    def make(loss="bpr", backbone="sasrec", confounder="attributes", data_attributes=ATTRIBUTES, **keys):
        keys |= {"data_attributes": data_attributes, "confounder": confounder}
        return Setting("irl4rec", sequences_of, loss, backbone, batch_size=8, spread=0.5, **keys)

    return make


@pytest.mark.parametrize("kinds", [None, ["tags"], ["tags", "brand"]])
def test_an_item_is_the_mean_of_its_values(kinds):
    torch.manual_seed(1)
    table = AttributeItems(ATTRIBUTES, kinds, DIM)
    number = {}  # of each (kind, value), in the order of the kinds
    for kind in kinds or ["brand", "tags"]:
        for value in range(1, ATTRIBUTES[kind].max() + 1):
            number[kind, value] = len(number) + 1
    assert len(table.attribute.weight) == len(number) + 1
    for item in range(ITEMS + 1):
        own = [number[kind, value] for kind in kinds or ATTRIBUTES for value in ATTRIBUTES[kind][item] if value]
        wanted = sum(table.attribute.weight[n] for n in own) / len(own) if own else torch.zeros(DIM)
        assert torch.allclose(table.weight[item], wanted, atol=1e-7)
        assert torch.equal(table(torch.tensor([[item, 3]]))[0, 0], table.weight[item])
    assert not table.weight[0].any()


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax", "cross_entropy"])
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
def test_the_objective_and_its_gradients(setting, loss, backbone):
    case = setting(loss, backbone, gamma=0.3, alpha=0.5, beta=0.01)
    method = case.method if loss == "cross_entropy" else case.method.double()
    oracle = Oracle(method, loss, case.batch)
    t, s, ts = (oracle.mean_loss(which) for which in range(3))
    objective = 0.7 * t + 0.2 * s + 0.3 * ts + 0.01 * oracle.penalty()
    wanted = check(
        case, loss, method.losses(case.batch), objective, loss_t=t, loss_s=s, loss_ts=ts, l2=oracle.penalty()
    )
    assert wanted["confounder.items.attribute.weight"].abs().max() > 0


def test_an_ensemble_leaves_to_s_what_attributes_tell(setting):
    case = setting(gamma=1, alpha=1, beta=0)
    logs = case.method.losses(case.batch)
    assert logs["loss"].item() == pytest.approx(logs["loss_ts"].item())


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("loss", ["bpr", "cross_entropy"])
@pytest.mark.parametrize("confounder", ["ids", "attributes"])
def test_independence_that_is_felt(setting, confounder, loss, relative):
    case = setting(loss, confounder=confounder, variant="independence", gamma=0.6, alpha=0.4, beta=0, relative=relative)
    method = case.method if loss == "cross_entropy" else case.method.double()
    oracle = Oracle(method, loss, case.batch)
    (t, s), of_t = oracle.states, oracle.mean_loss(0)
    distance = dependence(t, s)
    lengths = [torch.autograd.grad(term, t, retain_graph=True)[0].norm() for term in (of_t, distance)]
    weight = (0.6 * lengths[0] / lengths[1] if relative else torch.tensor(0.6, dtype=t.dtype)).detach()
    logs = method.losses(case.batch)
    check(case, loss, logs, of_t + 0.4 * oracle.mean_loss(1) + weight * distance)
    share = weight * lengths[1] / (lengths[0] + weight * lengths[1])
    assert logs["independence_share"].item() == pytest.approx(share.item(), rel=1e-4)
    if relative:
        assert share.item() == pytest.approx(0.6 / 1.6, rel=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data_attributes": {}}, r"method\.confounder=attributes: the data have none"),
        (
            {"attributes": "[tag]"},
            r"method\.attributes=tag: no such attribute; did you mean 'tags'\?; there are brand, tags",
        ),
        ({"shared_table": True}, r"method\.shared_table=true: with method\.confounder=attributes"),
        ({"confounder": "attribute"}, r"method\.confounder=attribute: must be one of ids, attributes"),
    ],
)
def test_what_cannot_be(setting, keys, message):
    with pytest.raises(UserError, match=message):
        setting(**keys)


def test_the_probe_finds_what_is_there_and_nothing_else(script):
    torch.manual_seed(1)
    label, noise = torch.randint(3, (400,)), torch.randn(400, 6)
    probe = script("attribute_probe").accuracy
    found, chance = probe(noise + 4 * torch.eye(6)[label], label)
    assert found > 0.95
    assert 0.25 < chance < 0.45
    assert abs(probe(noise, label)[0] - chance) < 0.1


def test_the_probe_labels_a_user_by_the_most_frequent_value_of_the_history(script, monkeypatch):
    value = torch.tensor([0, 1, 1, 2, 2, 3])  # of items 0 (padding) to 5
    seq = torch.tensor([[0, 1, 2, 3], [3, 4, 1, 5], [5, 5, 1, 3], [0, 0, 0, 4]])
    module = script("attribute_probe")
    labels = []
    monkeypatch.setattr(module, "accuracy", lambda _, label: labels.append(label.tolist()))
    items = SimpleNamespace(weight=torch.zeros(6, 2))
    module.probes(SimpleNamespace(encode=lambda seq: torch.zeros(*seq.shape, 2), items=items), [seq], value)
    assert labels == [[0, 1, 2, 1], [0, 0, 1, 1, 2]]  # numbered from 0


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
@pytest.mark.parametrize("backbone", ["sasrec", "fmlprec"])
def test_equal_losses_in_both_halves(setting, loss, backbone):
    case = setting(loss, backbone, variant="l2", confounder="ids", beta=0.01, gap_weight=0.7)
    oracle = Oracle(case.method.double(), loss, case.batch)
    values, halves = iter(oracle.losses[0]), ([], [])
    for row in (case.batch.target > 0).tolist():
        count = sum(row)
        for rank in range(1, count + 1):
            halves[rank > count / 2].append(next(values))
    older, newer = halves
    gap = sum(newer) / len(newer) - sum(older) / len(older) if older else torch.tensor(0.0)
    logs = case.method.losses(case.batch)
    check(case, loss, logs, oracle.mean_loss(0) + 0.01 * oracle.penalty() + 0.7 * gap**2, risk_gap=gap)
    assert (gap == 0) == (backbone == "fmlprec")  # rows of one target have no older half
