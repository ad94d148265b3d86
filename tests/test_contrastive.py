import math

import pytest
import torch

from seqrec.losses.contrastive import NTXent, flat_products


def views_of(generator, rows, width, dim):
    """States [2B, W, D] of right-aligned views with holes, one of them empty, and which slots are real."""
    length = torch.randint(1, width + 1, (rows, 1), generator=generator)
    real = (torch.arange(width) >= width - length) & (torch.rand(rows, width, generator=generator) < 0.8)
    real[1] = False
    return torch.randn(rows, width, dim, generator=generator) * real[..., None], real


def literal(hidden, real, user, vector, cosine, temperature):
    """Loss of each anchor and accuracy, from lists."""
    vectors = []
    for states, slots in zip(hidden.tolist(), real.tolist(), strict=True):
        if vector == "flat":
            vectors.append([value for state in states for value in state])
        else:
            places = [place for place, is_real in enumerate(slots) if is_real]
            vectors.append(states[places[-1]] if places else [0.0] * len(states[0]))

    def s(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        if cosine:
            norms = [math.sqrt(sum(x * x for x in v)) for v in (a, b)]
            dot = dot / (norms[0] * norms[1]) if norms[0] * norms[1] else 0.0
        return dot / temperature

    half, losses, first = len(user), [], 0
    whose = user.tolist() * 2
    for a in range(2 * half):
        positive = (a + half) % (2 * half)
        others = [m for m in range(2 * half) if whose[m] != whose[a]]
        own = s(vectors[a], vectors[positive])
        others = [s(vectors[a], vectors[m]) for m in others]
        losses.append(-math.log(math.exp(own) / (math.exp(own) + sum(map(math.exp, others)))))
        first += all(own > other for other in others)
    return losses, first / (2 * half)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("vector", ["flat", "last"])
def test_nt_xent_is_the_literal_double_loop(vector, cosine, temperature):
    generator = torch.Generator().manual_seed(0)
    hidden, real = views_of(generator, 14, 5, 3)
    user = torch.tensor([4, 1, 7, 1, 0, 9, 1])  # user 1 has three rows
    losses, accuracy = NTXent(vector, cosine, temperature)(hidden, real, user)
    expected, expected_accuracy = literal(hidden, real, user, vector, cosine, temperature)
    torch.testing.assert_close(losses, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert accuracy.item() == pytest.approx(expected_accuracy)


def test_equal_candidates_are_no_success():
    hidden = torch.ones(6, 1, 2)
    losses, accuracy = NTXent("last", False, 1.0)(hidden, torch.ones(6, 1, dtype=torch.bool), torch.arange(3))
    assert accuracy == 0
    torch.testing.assert_close(losses, torch.full((6,), math.log(5)))


def test_rows_of_one_user_have_nothing_to_stand_out_from():
    hidden = torch.randn(6, 2, 2)
    losses, accuracy = NTXent("flat", False, 1.0)(
        hidden, torch.ones(6, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.long)
    )
    assert not losses.any()
    assert accuracy == 1


@pytest.mark.parametrize("shrink", [0.3, 0.8, 1.0])
@pytest.mark.parametrize(("rows", "width"), [(12, 9), (3, 1), (2, 40)])
def test_flat_products_and_their_gradient_are_those_of_the_dense_product(rows, width, shrink):
    generator = torch.Generator().manual_seed(rows)
    hidden, real = views_of(generator, rows, width, 4)
    weight = torch.randn(rows, rows, generator=generator)
    hidden.requires_grad_()
    products = flat_products(hidden, real, shrink)
    dense = hidden.flatten(1) @ hidden.flatten(1).T
    torch.testing.assert_close(products, dense, atol=1e-5, rtol=1e-5)
    made, expected = (torch.autograd.grad((result * weight).sum(), hidden)[0] for result in (products, dense))
    torch.testing.assert_close(made[real], expected[real], atol=1e-5, rtol=1e-5)


def test_flat_products_touch_few_cells_where_rows_are_short(monkeypatch):
    hidden, real = torch.randn(64, 50, 8), torch.zeros(64, 50, dtype=torch.bool)
    real[:, -3:] = True
    real[0] = True  # one long row
    work = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: work.append(a.numel() * b.shape[-1]) or product(a, b))
    flat_products(hidden, real)
    assert sum(work) < 0.1 * 64 * 64 * 50 * 8


def test_large_logits_stay_finite_and_autocast_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    hidden, real = views_of(generator, 8, 6, 4)
    hidden = (hidden * 50).requires_grad_()
    contrast = NTXent("flat", False, 1.0)
    plain = contrast(hidden, real, torch.arange(4))[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = contrast(hidden, real, torch.arange(4))[0]
    assert torch.equal(plain, cast)
    assert plain.max() > 1000
    assert torch.isfinite(torch.autograd.grad(plain.sum(), hidden)[0]).all()
