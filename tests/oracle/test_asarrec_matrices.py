"""AsarRec's matrices against plain loops written from the equations: the encoder and Semi-Sinkhorn."""

import math

import pytest
import torch
from matrix_setting import random_soft, rows

from seqrec.methods.asarrec import objectives, views
from seqrec.methods.asarrec.augmentation_encoder import AugmentationEncoder
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn, straight_through

# --- the encoder -----------------------------------------------------------------------------------------------


def encoder(stay=0.8, gumbel=0.0, scale=1.0, seed=0):
    torch.manual_seed(seed)
    made = AugmentationEncoder(4, 16, stay, gumbel)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return made


@torch.no_grad()
def slow_probability(encoder, x, items, original, target, stay):
    """P of one row, by the page: h = W e + b, A = (W_Q h)(W_K h) / sqrt(d) + B, null column, softmax, null thrown away."""
    weights = dict(encoder.named_parameters())
    width, dim = x.shape
    table = weights["position.weight"]
    hidden = [
        weights["input.weight"] @ (x[i] + table[len(table) - width + i]) + weights["input.bias"] for i in range(width)
    ]
    bias = math.log(sum(target)) + math.log(stay / (1 - stay))
    result = torch.zeros(2, width, width)
    for view in range(2):
        block = slice(view * dim, (view + 1) * dim)
        for i in range(width):
            if not items[i]:
                continue
            query = weights["query.weight"][block] @ hidden[i]
            logits = []
            for j in range(width):
                logit = query @ (weights["key.weight"][block] @ hidden[j]) / math.sqrt(dim)
                logit = logit + (bias if i == j and original[i] else 0)
                logits.append(float(logit) if target[j] else -math.inf)
            null = float(weights["null.weight"][view] @ hidden[i]) + (0 if original[i] else bias)
            total = sum(math.exp(logit) for logit in [*logits, null])
            for j in range(width):
                result[view, i, j] = math.exp(logits[j]) / total
    return result


def test_the_transition_matrix_follows_the_equation():
    made, extended = encoder(stay=0.7, scale=0.6), rows([5, 3])
    extended.items[1, 3] = 0  # a place without a candidate: an empty row, but still a target
    x = torch.randn(*extended.items.shape, 4)
    found = made(x, extended.items > 0, extended.original, extended.target)
    for row in range(2):
        slow = slow_probability(
            made, x[row], (extended.items[row] > 0).tolist(), *(part[row].tolist() for part in (extended.original, extended.target)), 0.7
        )  # fmt: skip
        torch.testing.assert_close(found[row], slow, rtol=1e-4, atol=1e-6)
    assert found[1, :, :, 3].sum() > 0
    assert found.sum(-1).max() < 1 + 1e-6


def test_the_prior_gives_every_item_its_probability_to_stay():
    made, extended = encoder(stay=0.8, scale=0.0), rows([9, 4], count=5)
    found = made(torch.randn(*extended.items.shape, 4), extended.items > 0, extended.original, extended.target)
    for row in range(2):
        for slot in range(14):
            if extended.original[row, slot]:
                assert found[row, :, slot, slot].tolist() == pytest.approx([0.8, 0.8])
            elif extended.items[row, slot]:
                assert found[row, :, slot].sum(-1).tolist() == pytest.approx([0.2, 0.2])  # the rest: not inserted
            else:
                assert found[row, :, slot].abs().sum() == 0


def test_the_prior_alone_makes_the_identity():
    made, extended = encoder(stay=0.8, scale=0.0), rows([9, 6, 3], count=5)
    soft = made(torch.zeros(*extended.items.shape, 4), extended.items > 0, extended.original, extended.target)
    hard = discretise(semi_sinkhorn(soft, 5, 1.3), 0.5)
    identity = torch.diag_embed(extended.original.float())[:, None].expand_as(hard)
    assert torch.equal(hard, identity)
    assert torch.equal(objectives.sequence_ndcg(hard, extended.original, "D"), torch.ones(3, 2))
    source = views.sources(hard, 14)
    made = views.hard_views(extended, source, 0.2, compact=False)
    assert torch.equal(made.items(extended), (extended.items * extended.original)[:, None].expand(-1, 2, -1))
    assert not made.fallback.any()


def test_noise_is_gumbel_noise_in_training_only():
    """The largest entry of a row is then a draw from the row's probabilities (the Gumbel-max rule)."""
    made, extended = encoder(stay=0.6, gumbel=1.0, scale=0.0), rows([3] * 2000)
    inputs = (torch.zeros(2000, 6, 4), extended.items > 0, extended.original, extended.target)
    probability = made.train()(*inputs)
    null = 1 - probability.sum(-1, keepdim=True)
    drawn = torch.cat([probability, null], -1).argmax(-1)
    assert float((drawn[..., 3:] == torch.arange(3, 6)).float().mean()) == pytest.approx(0.6, abs=0.02)
    assert float((drawn[..., :3] == 6).float().mean()) == pytest.approx(0.6, abs=0.02)
    assert torch.equal(made.eval()(*inputs), made(*inputs))
    made.gumbel = 0.0
    quiet = made.train()(*inputs)
    assert torch.equal(made.eval()(*inputs), quiet)
    made.gumbel = 0.25  # noise is scaled: an item stays nearly always
    assert float((made.train()(*inputs)[:, :, 3:].argmax(-1) == torch.arange(3, 6)).float().mean()) > 0.99


# --- Semi-Sinkhorn ---------------------------------------------------------------------------------------------


def slow_semi_sinkhorn(matrix, iterations, power):
    size = len(matrix)
    soft = [[float(matrix[i, j]) for j in range(size)] for i in range(size)]
    for _ in range(iterations):
        for i in range(size):
            mass = sum(soft[i])
            sharp = [max(entry, 1e-12) ** power for entry in soft[i]]
            soft[i] = [mass * entry / (sum(sharp) + 1e-9) for entry in sharp]
        for j in range(size):
            total = sum(soft[i][j] for i in range(size))
            for i in range(size):
                soft[i][j] /= max(1, total)
        for i in range(size):
            soft[i] = [entry / max(1, sum(soft[i])) for entry in soft[i]]
    return torch.tensor(soft)


def test_semi_sinkhorn_follows_its_steps():
    generator = torch.Generator().manual_seed(1)
    soft = random_soft(3, 2, 6, 6, generator=generator)
    soft[0, 0, 2] = 0  # a source without an item
    soft[0, 0, :, 4] = soft[0, 0].amax(1) * 0.9  # a crowded target
    soft[0, 0] /= soft[0, 0].sum(1, keepdim=True).clamp(min=1)
    soft[1] *= 1.5  # rows above 1, which the encoder does not make
    for iterations, power in ((1, 1.3), (5, 1.3), (3, 1.0), (10, 1.1), (0, 1.3)):
        found = semi_sinkhorn(soft, iterations, power)
        for row in range(3):
            for view in range(2):
                slow = slow_semi_sinkhorn(soft[row, view], iterations, power)
                torch.testing.assert_close(found[row, view], slow, rtol=1e-4, atol=1e-6)


def test_more_rounds_are_harder_with_sums_of_at_most_one():
    soft = random_soft(50, 8, 8, generator=torch.Generator().manual_seed(2))
    hardness = []
    for iterations in (1, 3, 5, 10):
        made = semi_sinkhorn(soft, iterations, 1.3)
        assert made.sum(-1).max() < 1 + 1e-5
        hardness.append(float((made.amax(-1) / made.sum(-1)).mean()))
    assert hardness == sorted(hardness)
    assert hardness[-1] > hardness[0] + 0.1


def slow_discretise(matrix, threshold):
    size = len(matrix)
    left = [[float(matrix[i, j]) for j in range(size)] for i in range(size)]
    hard = torch.zeros(size, size)
    while True:
        chosen = None
        for i in range(size):
            for j in range(size):
                column = [left[other][j] for other in range(size)]
                if chosen is None and left[i][j] >= threshold and left[i][j] == max(left[i]) == max(column):
                    chosen = i, j
        if chosen is None:
            return hard
        i, j = chosen
        hard[i, j] = 1
        for other in range(size):
            left[i][other] = left[other][j] = -1.0


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7])
def test_discretisation_takes_mutual_maxima_until_none_is_left(threshold):
    generator = torch.Generator().manual_seed(3)
    soft = semi_sinkhorn(random_soft(60, 2, 6, 6, generator=generator), 3, 1.2)
    found = discretise(soft, threshold)
    for row in range(60):
        for view in range(2):
            assert torch.equal(found[row, view], slow_discretise(soft[row, view], threshold))
    assert found.sum() > 60


def test_discretisation_needs_several_rounds_where_maxima_depend_on_each_other():
    soft = torch.tensor([[0.60, 0.55, 0.0], [0.65, 0.50, 0.45], [0.70, 0.64, 0.40]])
    assert discretise(soft, 0.4).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert discretise(soft, 0.5).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_the_first_of_equal_entries_counts():
    half = torch.full((3, 3), 0.5)
    assert torch.equal(discretise(half, 0.5), torch.eye(3))
    assert discretise(half, 0.51).sum() == 0
    assert discretise(torch.tensor([[0.5, 0.5], [0.0, 0.5]]), 0.5).tolist() == [[1, 0], [0, 1]]


def test_hard_matrices_are_partial_permutations():
    generator = torch.Generator().manual_seed(4)
    for size, threshold in ((5, 0.1), (9, 0.3), (20, 0.5)):
        hard = discretise(semi_sinkhorn(random_soft(1000, size, size, generator=generator), 5, 1.3), threshold)
        assert set(hard.unique().tolist()) <= {0.0, 1.0}
        assert hard.sum(-1).max() == 1
        assert hard.sum(-2).max() == 1


def test_straight_through_has_the_hard_values_and_the_soft_gradient():
    soft = torch.rand(4, 4, requires_grad=True)
    hard = torch.eye(4)
    made = straight_through(hard, soft)
    assert torch.equal(made, hard)
    weight = torch.randn(4, 4)
    (made * weight).sum().backward()
    assert torch.equal(soft.grad, weight)
