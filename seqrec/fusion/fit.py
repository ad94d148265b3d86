"""Fit of the weights of a linear score by the full softmax: convex, a handful of weights, Newton's method."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec.fusion.features import SparseFeatures

STEPS = 30
PRECISION = 1e-4  # largest change of a weight in the last step
RIDGE = 1e-6  # of the mean loss; a feature that is constant would leave the weights undetermined
PRIOR = 100.0  # users that the weights of all count for in the fit of a group


@dataclass(frozen=True)
class Chunk:
    """B rows: scores of M models, P features of the items, F sparse features; the target and what is no candidate."""

    models: Tensor  # [M, B, V + 1]
    of_items: Tensor  # [P, V + 1]
    sparse: SparseFeatures
    target: Tensor  # [B]
    excluded: Tensor  # cells row * (V + 1) + item of padding and of the user's history

    def score(self, weights: Tensor) -> Tensor:
        """Return the fused scores [B, V + 1], -inf at what is no candidate; weights [M + P + F] in the order of the fields."""
        models, of_items, sparse = weights.float().split(self.sizes)
        score = torch.einsum("m,mbv->bv", models, self.models) + of_items @ self.of_items
        score.view(-1).index_add_(0, self.sparse.cell, self.sparse.value @ sparse)
        score.view(-1)[self.excluded] = -torch.inf
        return score

    @property
    def sizes(self) -> list[int]:
        """M, P and F."""
        return [len(self.models), len(self.of_items), self.sparse.value.shape[1]]


@dataclass
class Moments:
    """Loss, gradient and Hessian over n rows, as sums."""

    loss: Tensor
    gradient: Tensor  # [K]
    hessian: Tensor  # [K, K]
    rows: int

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def moments(chunk: Chunk, weights: Tensor) -> Moments:
    """Return -log softmax of the targets at `weights` [K], its gradient and Hessian, summed over the rows.

    The gradient is the expected feature minus the target's, the Hessian the covariance of the features under the
    softmax. A row whose target is no candidate is left out.
    """
    at = torch.arange(len(chunk.target))
    score = chunk.score(weights)
    counted = score[at, chunk.target] > -torch.inf
    normaliser = score.logsumexp(1)
    loss = (normaliser - score[at, chunk.target])[counted].sum(dtype=torch.double)
    probability = score.sub_(normaliser[:, None]).exp_() * counted[:, None]

    items, cell, value = chunk.of_items, chunk.sparse.cell, chunk.sparse.value
    row = cell // probability.shape[1]
    weighted = [probability * model for model in chunk.models]
    at_cells = probability.view(-1)[cell]
    sparse = value * at_cells[:, None]
    mean = torch.cat(
        [
            torch.stack([part.sum(1) for part in weighted], 1) if weighted else probability.new_zeros(len(at), 0),
            probability @ items.T,
            torch.zeros(len(at), value.shape[1]).index_add_(0, row, sparse),
        ],
        1,
    ).double()
    target = (
        torch.cat([chunk.models[:, at, chunk.target].T, items[:, chunk.target].T, at_target(chunk)], 1).double()
        * counted[:, None]
    )

    m, p, _ = chunk.sizes
    second = torch.zeros(len(weights), len(weights), dtype=torch.double)
    for i, part in enumerate(weighted):
        for j in range(i, m):
            second[i, j] = second[j, i] = (part * chunk.models[j]).sum(dtype=torch.double)
        second[i, m : m + p] = second[m : m + p, i] = (items @ part.sum(0)).double()
        second[i, m + p :] = second[m + p :, i] = (value.T @ part.view(-1)[cell]).double()
    second[m : m + p, m : m + p] = ((items * probability.sum(0)) @ items.T).double()
    item = cell % probability.shape[1]
    second[m : m + p, m + p :] = (items[:, item] @ sparse).double()
    second[m + p :, m : m + p] = second[m : m + p, m + p :].T
    second[m + p :, m + p :] = (value.T @ sparse).double()
    return Moments(loss, (mean - target).sum(0), second - mean.T @ mean, int(counted.sum()))


def at_target(chunk: Chunk) -> Tensor:
    """Return the sparse features of the targets, [B, F]."""
    width = chunk.of_items.shape[1]
    wanted = torch.arange(len(chunk.target)) * width + chunk.target
    place = torch.searchsorted(chunk.sparse.cell, wanted)
    found = F.pad(chunk.sparse.cell, (0, 1), value=-1)[place] == wanted
    return chunk.sparse.value.new_zeros(len(wanted), chunk.sizes[2]).masked_scatter(
        found[:, None], chunk.sparse.value[place[found]]
    )


def fit(chunks: Callable[[], Iterable[Chunk]], start: Tensor, prior: Tensor | None = None) -> Tensor:
    """Return the weights [K] double that minimise the mean loss over the rows of all chunks, from `start`.

    `chunks` is called once per step. Steps are halved until the loss does not rise; without rows the start is returned.
    With `prior` [K], PRIOR / 2 times the squared distance to it is added to the sum of the losses.
    """
    weights = start.double()
    now = total(chunks, weights)
    strength, centre = (RIDGE * now.rows, torch.zeros_like(weights)) if prior is None else (PRIOR, prior.double())

    def penalised(at: Moments, weights: Tensor) -> Tensor:
        return at.loss + strength / 2 * (weights - centre).square().sum()

    for _ in range(STEPS if now.rows else 0):
        gradient = now.gradient + strength * (weights - centre)
        step = torch.linalg.solve(now.hessian + strength * torch.eye(len(weights), dtype=torch.double), gradient)
        for _ in range(20):
            after = total(chunks, weights - step)
            if penalised(after, weights - step) <= penalised(now, weights) + 1e-9 * abs(now.loss):
                break
            step = step / 2
        weights, now = weights - step, after
        if step.abs().max() < PRECISION:
            break
    return weights


def total(chunks: Callable[[], Iterable[Chunk]], weights: Tensor) -> Moments:
    """Return the moments over all chunks."""
    size = len(weights)
    start = Moments(
        torch.zeros((), dtype=torch.double), torch.zeros(size).double(), torch.zeros(size, size).double(), 0
    )
    return sum((moments(chunk, weights) for chunk in chunks()), start=start)
