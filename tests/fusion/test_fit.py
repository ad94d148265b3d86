"""The fit: its loss, gradient and Hessian against autograd on dense features, and weights that are known."""

import pytest
import torch

from seqrec.fusion.features import SparseFeatures
from seqrec.fusion.fit import PRIOR, Chunk, fit, moments, total
from seqrec.fusion.fusion import fit_groups

ROWS, WIDTH = 7, 30


def chunk(seed, models=2, of_items=1, sparse=3, rows=ROWS):
    """A chunk, and its features as one dense tensor [K, B, V + 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    cells = (torch.rand(rows * WIDTH, generator=generator) < 0.3 * bool(sparse)).nonzero()[:, 0]
    values = draw(len(cells), sparse).abs()
    excluded = torch.cat([torch.arange(rows) * WIDTH, torch.arange(rows) * WIDTH + 3])
    target = torch.randint(4, WIDTH, (rows,), generator=generator)
    made = Chunk(draw(models, rows, WIDTH), draw(of_items, WIDTH), SparseFeatures(cells, values), target, excluded)
    dense = torch.zeros(sparse, rows * WIDTH).index_copy(1, cells, values.T).view(sparse, rows, WIDTH)
    return made, torch.cat([made.models, made.of_items[:, None].expand(-1, rows, -1), dense]).double()


def dense_loss(made, dense, weights, counted=None):
    score = torch.einsum("k,kbv->bv", weights, dense)
    hidden = torch.zeros(score.numel(), dtype=torch.bool)
    hidden[made.excluded] = True
    score = score.masked_fill(hidden.view_as(score), -torch.inf)
    each = score.logsumexp(1) - score.gather(1, made.target[:, None])[:, 0]
    return (each if counted is None else each[counted]).sum()


@pytest.mark.parametrize("sizes", [(2, 1, 3), (1, 0, 2), (0, 1, 2), (1, 1, 0), (3, 2, 1)])
def test_loss_gradient_and_hessian_are_those_of_autograd(sizes):
    made, dense = chunk(1, *sizes)
    weights = torch.linspace(-0.4, 0.6, sum(sizes)).double()
    found = moments(made, weights)
    point = weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dense_loss(made, dense, point), point)
    hessian = torch.autograd.functional.hessian(lambda w: dense_loss(made, dense, w), weights)
    assert float(found.loss) == pytest.approx(float(dense_loss(made, dense, weights)), rel=1e-5)
    assert found.gradient.numpy() == pytest.approx(gradient.numpy(), abs=1e-4)
    assert found.hessian.numpy() == pytest.approx(hessian.numpy(), abs=1e-3)
    assert found.rows == ROWS


def test_a_target_that_is_no_candidate_is_left_out():
    made, dense = chunk(2)
    made.target[2] = 3  # in the history
    weights = torch.full((6,), 0.2).double()
    counted = torch.arange(ROWS) != 2
    found = moments(made, weights)
    point = weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dense_loss(made, dense, point, counted), point)
    assert found.rows == ROWS - 1
    assert float(found.loss) == pytest.approx(float(dense_loss(made, dense, weights, counted)), rel=1e-5)
    assert found.gradient.numpy() == pytest.approx(gradient.numpy(), abs=1e-4)


def test_scores_are_the_weighted_sum():
    made, dense = chunk(3)
    weights = torch.tensor([0.5, -1, 0.3, 2, 0.1, -0.7]).double()
    score = made.score(weights).flatten()
    expected = torch.einsum("k,kbv->bv", weights, dense).flatten()
    kept = torch.ones(len(score), dtype=torch.bool)
    kept[made.excluded] = False
    assert score[kept].numpy() == pytest.approx(expected[kept].numpy(), abs=1e-5)
    assert (score[~kept] == -torch.inf).all()


def planted(weights, rows=4000):
    made, dense = chunk(4, 1, 1, 2, rows)
    made.target.copy_(
        torch.multinomial(made.score(weights).softmax(1), 1, generator=torch.Generator().manual_seed(5))[:, 0]
    )
    return made, dense


def test_planted_weights_are_recovered():
    truth = torch.tensor([0.7, -0.5, 1.2, 0.3]).double()
    made, _ = planted(truth)
    assert fit(lambda: [made], torch.tensor([1.0, 0, 0, 0])).numpy() == pytest.approx(truth.numpy(), abs=0.12)


def test_the_fit_is_a_minimum_from_any_start():
    made, _ = planted(torch.tensor([0.7, -0.5, 1.2, 0.3]).double(), rows=300)
    first, second = (fit(lambda: [made], torch.tensor(start)) for start in ([1.0, 0, 0, 0], [-3.0, 5, 4, -4]))
    assert first.numpy() == pytest.approx(second.numpy(), abs=1e-3)
    least = float(total(lambda: [made], first).loss)
    for k in range(4):
        for step in (0.05, -0.05):
            moved = first.clone()
            moved[k] += step
            assert float(total(lambda: [made], moved).loss) > least


def test_a_feature_that_is_0_everywhere_gets_no_weight():
    made, _ = chunk(6)
    made.models[1] = 0
    weights = fit(lambda: [made], torch.full((6,), 0.3))
    assert torch.isfinite(weights).all()
    assert abs(float(weights[1])) < 1e-6


def test_chunks_add_up():
    parts = [chunk(seed)[0] for seed in (7, 8)]
    weights = torch.full((6,), 0.1).double()
    one, two = (moments(part, weights) for part in parts)
    both = total(lambda: parts, weights)
    assert float(both.loss) == pytest.approx(float(one.loss + two.loss))
    assert both.rows == 2 * ROWS


def test_a_prior_pulls_the_weights_like_its_number_of_users():
    made, dense = planted(torch.tensor([0.7, -0.5, 1.2, 0.3]).double(), rows=200)
    prior = torch.tensor([0.2, 0.1, 0.9, -0.3]).double()
    weights = fit(lambda: [made], torch.zeros(4), prior).requires_grad_()
    objective = dense_loss(made, dense, weights) + PRIOR / 2 * ((weights - prior) ** 2).sum()
    (gradient,) = torch.autograd.grad(objective, weights)
    assert gradient.abs().max() < 0.05


def test_groups_have_the_weights_of_all_where_they_have_no_users_and_their_own_where_they_have_many():
    truths = [torch.tensor([0.7, -0.5, 1.2, 0.3]).double(), torch.tensor([0.2, 0.4, 0.1, 1.0]).double()]
    groups = [[planted(truth)[0]] for truth in truths]
    of_all = fit(lambda: [chunk for chunks in groups for chunk in chunks], torch.zeros(4))
    weights = fit_groups([*groups, []], torch.zeros(4))
    for found, truth in zip(weights, truths, strict=False):
        assert (found - truth).abs().max() < 0.5 * (of_all - truth).abs().max()
    assert torch.equal(weights[2], of_all)
    assert torch.equal(fit_groups([groups[0]], torch.zeros(4))[0], fit(lambda: groups[0], torch.zeros(4)))


def test_a_group_of_few_users_stays_near_the_weights_of_all():
    """The prior of a group is the fit of all users, not what the fit began with."""
    many = planted(torch.tensor([0.7, -0.5, 1.2, 0.3]).double())[0]
    few = planted(torch.tensor([0.2, 0.4, 0.1, 1.0]).double(), rows=20)[0]
    start = torch.tensor([1.0, 0, 0, 0]).double()
    of_all = fit(lambda: [many, few], start)
    weights = fit_groups([[many], [few]], start)
    expected = torch.stack([fit(lambda chunk=chunk: [chunk], of_all, of_all) for chunk in (many, few)])
    assert weights.numpy() == pytest.approx(expected.numpy(), abs=1e-3)
    assert (weights[1] - of_all).abs().max() < 0.5 * (of_all - start).abs().max()
