"""AsarRec's designs that are off by default: what the augmenter sees and feels, where candidates stand, what is learnt, blocks."""

import pytest
import torch
from asarrec_setting import (
    BACKBONES,
    DIM,
    batch_of,
    build,
    gradients_of,
    histories,
    names_of,
    slow_augmenter_loss,
    slow_recommender_loss,
)

from seqrec.methods.asarrec import matrices, objectives, views
from seqrec.methods.asarrec.learnt import Multiplier, Shares
from seqrec.utils.errors import UserError
from seqrec.utils.gradients import frozen


@pytest.fixture
def train(sequences_of):
    return histories(sequences_of)


COOPERATIVE = ("method.occupancy=true", "method.augmenter_sees=states", "method.info_mode=cooperative")
BESIDE = ("method.candidate_place=beside", "method.invariance=R")


def both_losses(method, batch):
    """The augmenter's loss and its gradients, as trained and literally."""
    extended, names = method.extended(batch), names_of(method, "augmenter")
    if hasattr(method.augmenter, "shares"):
        torch.nn.init.normal_(method.augmenter.shares.score, std=0.5)
    with frozen(method.recommender_parameters(), method.backbone):
        made = method.effects(extended)
        fast = method.augmenter_losses(extended, made, method.hard_views(extended, made))["augmenter"]
        slow = slow_augmenter_loss(method, batch)
        return fast, slow, gradients_of(method, fast, names), gradients_of(method, slow, names)


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        *[(backbone, ["method.augmenter_sees=states"]) for backbone in BACKBONES],
        pytest.param("sasrec", ["method.occupancy=true"], marks=pytest.mark.slow),
        ("sasrec-end", ["method.occupancy=true", "method.compact=true"]),
        ("sasrec", ["method.occupancy=true", "method.augmenter_sees=states", "method.vector=flat"]),
        pytest.param("sasrec-end", ["method.invariance=R", "method.info_mode=cooperative"], marks=pytest.mark.slow),
        # shares that differ keep margins off 0, where the gradient is a matter of rounding
        *[pytest.param(backbone, [*BESIDE, "method.budget=learnt"], marks=pytest.mark.slow) for backbone in BACKBONES],
        pytest.param("sasrec-end", [*BESIDE, *COOPERATIVE], marks=pytest.mark.slow),
        pytest.param("sasrec", BESIDE, marks=pytest.mark.slow),
        ("sasrec", [*BESIDE, *COOPERATIVE, "method.budget=learnt", "method.diversity_weight=learnt"]),
    ],
)
def test_the_augmenter_loss(train, backbone, changes):
    method = build(train, backbone, *changes)
    size = 30 if backbone == "fmlprec" else 10
    fast, slow, mine, wanted = both_losses(method, batch_of(train, method, size))
    assert fast.item() == pytest.approx(slow.item(), rel=1e-4)
    for name, gradient in wanted.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-3, atol=1e-5), name
    assert max(gradient.abs().max() for gradient in wanted.values()) > 1e-3


@pytest.mark.parametrize(
    "backbone", ["sasrec", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sasrec-end", "gru4rec"))]
)
def test_the_recommender_loss_with_candidates_beside_the_items(train, backbone):
    method = build(train, backbone, *BESIDE)
    method.on_epoch(99)
    batch, names = batch_of(train, method), names_of(method, "recommender")
    fast, slow = method.losses(batch)["loss"], slow_recommender_loss(method, batch)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-4)
    mine, wanted = gradients_of(method, fast, names), gradients_of(method, slow, names)
    for name in names:
        if wanted[name] is not None:
            wanted[name][:1] *= name != "items.weight"  # padding
            assert torch.allclose(mine[name], wanted[name], rtol=1e-3, atol=2e-5), name


def test_a_candidate_stands_before_its_item():
    made = views.beside(torch.tensor([[7, 8, 9], [0, 5, 6]]), torch.tensor([[1, 0, 3], [0, 2, 0]]))
    assert made.items.tolist() == [[1, 7, 0, 8, 3, 9], [0, 0, 2, 5, 0, 6]]
    assert made.original.tolist() == [[False, True] * 3, [False] * 3 + [True, False, True]]
    assert made.target.tolist() == [[True] * 6, [False] * 2 + [True] * 4]


def ndcg_by_rank(size, moves, history):
    hard = torch.zeros(1, 2, size, size)
    for i, j in moves:
        hard[:, :, i, j] = 1
    return float(objectives.sequence_ndcg(hard, torch.tensor([[slot in history for slot in range(size)]]), "R")[0, 0])


def test_ndcg_by_rank_counts_what_is_dropped_and_the_order_of_the_rest():
    """Pairs of a candidate and an item: c0 v0 c1 v1 c2 v2; the weights are 1, 1 / log2 3 and 1 / 2 from the newest on."""
    history, stay, weight = (1, 3, 5), [(1, 1), (3, 3), (5, 5)], (0.5, 0.6309, 1.0)
    total = sum(weight)
    assert ndcg_by_rank(6, stay, history) == pytest.approx(1)
    assert ndcg_by_rank(6, [*stay, (4, 4)], history) == pytest.approx(1)  # insertion, also before the newest
    assert ndcg_by_rank(6, [(1, 0), (3, 1), (5, 3)], history) == pytest.approx(1)  # all shifted, none overtaken
    substituted = ndcg_by_rank(6, [(1, 1), (2, 3), (5, 5)], history)
    assert substituted == pytest.approx((0.5 + 1) / total, abs=1e-4)  # as much as a drop
    assert ndcg_by_rank(6, [(1, 1), (5, 5)], history) == pytest.approx(substituted)
    swapped = ndcg_by_rank(6, [(1, 1), (3, 5), (5, 3)], history)  # ranks of two items moved by 1
    assert swapped == pytest.approx((0.5 + (0.6309 + 1) * 0.6309) / total, abs=1e-4)


def test_shares_divide_the_budget_and_are_equal_at_first():
    shares, seen = Shares(2), torch.tensor([[[9.0, 9.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 3.0]]])
    original = torch.tensor([[False, True], [True, True]])
    assert shares(seen, original).tolist() == [1, 1]
    with torch.no_grad():
        shares.score.copy_(torch.tensor([0.0, 0.5]))  # the means are (1, 0) and (0, 2)
    assert shares(seen, original).tolist() == pytest.approx([2 / (1 + 2.71828), 2 * 2.71828 / (1 + 2.71828)], rel=1e-5)


def test_a_share_of_the_budget_may_be_a_fraction_of_an_item():
    original = torch.ones(3, 4, dtype=torch.bool)
    weights = [1, 1 / torch.tensor(3.0).log2().item(), 0.5, 1 / torch.tensor(5.0).log2().item()]
    found = objectives.worst_ndcg(original, "D", 0.5, torch.tensor([1.0, 0.25, 1.25]))  # of 2 items
    lost = [weights[0] + weights[1], 0.5 * weights[0], weights[0] + weights[1] + 0.5 * weights[2]]
    assert found.tolist() == pytest.approx([1 - part / sum(weights) for part in lost], rel=1e-5)


@pytest.mark.parametrize(("distance", "rises"), [(0.02, True), (0.3, False)])
def test_the_weight_of_diversity_rises_while_views_are_too_near(distance, rises):
    multiplier, distances = Multiplier(0.1), torch.full((3,), distance, requires_grad=True)
    loss = multiplier(distances, 0.1)
    assert loss.item() == pytest.approx(0.1 * max(0, 0.1 - distance))
    loss.backward()
    assert multiplier.log.grad.item() == pytest.approx(-0.1 * (0.1 - distance), rel=1e-5)  # descent raises it
    assert distances.grad.tolist() == pytest.approx([-0.1 / 3 * rises] * 3)


def of_blocks(train, monkeypatch, largest, gumbel, drawn_again=True):
    method = build(train, "sasrec", *BESIDE, f"method.gumbel={gumbel}", "method.budget=learnt")
    monkeypatch.setattr(matrices, "LARGEST", largest)
    if not drawn_again:
        monkeypatch.setattr(matrices, "checkpoint", lambda function, *given, use_reentrant: function(*given))
    torch.manual_seed(4)
    extended = method.extended(batch_of(train, method))
    cut = sum(cut for _, cut in matrices.blocks(extended.target.sum(1)))
    made = method.effects(extended)
    loss = method.augmenter_losses(extended, made, method.hard_views(extended, made))["augmenter"]
    return cut, loss, gradients_of(method, loss, names_of(method, "augmenter"))


@pytest.mark.parametrize("gumbel", [0, 1])
def test_matrices_in_blocks_are_those_of_the_whole_batch(train, monkeypatch, gumbel):
    """With noise the blocks draw other numbers than the batch; there, matrices drawn again are compared with those kept."""
    cut, loss, gradients = of_blocks(train, monkeypatch, 600, gumbel)
    assert cut > 2
    other, wanted_loss, wanted = of_blocks(
        train, monkeypatch, 600 if gumbel else matrices.LARGEST * 1000, gumbel, drawn_again=False
    )
    assert other == (cut if gumbel else 0)
    assert loss.item() == pytest.approx(wanted_loss.item(), rel=1e-6)
    for name, gradient in wanted.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-6), name


def test_occupancy_changes_the_gradient_and_not_the_loss(train):
    found = []
    for occupancy in ("false", "true"):
        method = build(train, "sasrec", f"method.occupancy={occupancy}")
        fast, _, gradients, _ = both_losses(method, batch_of(train, method))
        found.append((fast.item(), gradients["augmenter.query.weight"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert not torch.allclose(found[0][1], found[1][1], rtol=0.05)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("slot", [0, 2])
def test_a_bias_of_log_w_counts_a_key_w_times(train, slot, copies):
    """w equal items at one position are one item whose key has the bias log w, in a layer."""
    backbone = build(train, "sasrec", "backbone.layers=1").backbone.eval()  # deeper ones: the first copy sees no second
    torch.manual_seed(2)
    x, slots = torch.randn(1, 4, DIM), torch.arange(4)
    bias = torch.zeros(1, 4)
    bias[0, slot] = torch.tensor(float(copies)).log()
    got = backbone(x, torch.ones(1, 4, dtype=torch.bool), key_bias=bias)[0, -1]
    repeated = torch.cat([slots[:slot], torch.full((copies,), slot), slots[slot + 1 :]])
    wanted = backbone(x[:, repeated], torch.ones(1, len(repeated), dtype=torch.bool), repeated[None])[0, -1]
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_bias_in_a_padded_batch_belongs_to_its_slot(train, rate):
    backbone = build(train, "sasrec").backbone
    backbone.train(rate > 0)
    mask = torch.tensor([[False, True, True, True], [True, True, False, True], [False, False, False, True]])
    torch.manual_seed(2)
    x, bias = torch.randn(3, 4, DIM), torch.randn(3, 4)
    together = backbone(x, mask, key_bias=bias)
    for row in range(3):
        own = mask[row]
        alone = backbone(
            x[row, own][None], own[own][None], backbone.positions(mask)[row, own][None], key_bias=bias[row, own][None]
        )
        assert torch.allclose(together[row, own], alone[0], atol=1e-5)


def test_states_are_those_of_the_recommender_without_dropout_or_gradient(train):
    method = build(train, "sasrec", "method.augmenter_sees=states", still=False)
    extended = method.extended(batch_of(train, method))
    first = method.seen(extended)
    assert torch.equal(first, method.seen(extended))
    assert not first.requires_grad
    assert method.backbone.training
    assert torch.allclose(first.mean(-1), torch.zeros(first.shape[:2]), atol=1e-6)
    assert not torch.allclose(first, build(train, "sasrec", still=False).seen(extended), atol=0.1)


@pytest.mark.parametrize(
    ("backbone", "change", "message"),
    [
        ("gru4rec", "method.occupancy=true", r"method\.occupancy=true: the backbone has no attention"),
        ("sasrec", "method.augmenter_sees=state", r"method\.augmenter_sees=state: must be one of embeddings, states"),
        (
            "sasrec",
            "method.candidate_place=beside",
            r"method\.candidate_place=beside: method\.invariance=D counts slots",
        ),
        ("sasrec", "method.budget=learned", r"method\.budget=learned: must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be(train, backbone, change, message):
    with pytest.raises(UserError, match=message):
        build(train, backbone, change)
