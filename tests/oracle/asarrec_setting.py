"""A small AsarRec that makes all kinds of views, and a slow version of its losses that takes one history at a time."""

import math

import numpy as np
import torch
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn
from seqrec.methods.base import ModelSpec
from seqrec.utils.instantiate import make

ITEMS, MAX_LEN, DIM, K = 30, 8, 8, 3
STILL = {
    "sasrec": ("dropout", "attention_dropout", "inner_dropout"),
    "gru4rec": ("embedding_dropout", "dropout"),
    "fmlprec": ("embedding_dropout", "dropout"),
}
LIVELY = (
    *("method.stay=.3", "method.gumbel=0", "method.threshold=.3", "method.power=1.1", "method.iterations=3"),
    *("method.diversity_margin=.5", "method.least=.4"),
)
BACKBONES = ["sasrec", "sasrec-end", "gru4rec", "fmlprec"]


def histories(sequences_of):
    """Ten histories of 2 to 12 different items."""
    generator = np.random.default_rng(5)
    lengths = (12, 9, 7, 7, 5, 4, 3, 2, 6, 10)
    return sequences_of([(generator.permutation(ITEMS)[:length] + 1).tolist() for length in lengths])


COMPARED_BY = {
    "dot": ("method.cosine=false", "method.temperature=5"),
    "cosine": ("method.cosine=true", "method.temperature=.5"),
}


def build(train, backbone="sasrec", *changes, method="asarrec", still=True, lively=True):
    """A method from the real configuration, with embeddings and an augmenter that make all kinds of views."""
    name, _, count_from = backbone.partition("-")
    overrides = [f"method={method}", f"backbone={name}", "loss=bce"]
    if still:
        overrides += [f"backbone.{key}=0" for key in STILL[name]]
    if name == "sasrec":
        overrides += [f"backbone.count_from={count_from or 'start'}", "backbone.layers=2"]
    if method == "asarrec":
        overrides += [f"method.candidates={K}", *COMPARED_BY["dot"], *(LIVELY if lively else ())]
    overrides += changes
    config = OmegaConf.to_container(configure(*overrides), resolve=True)
    torch.manual_seed(3)
    spec = ModelSpec(make(config["backbone"]), make(config["loss"]), ITEMS, DIM, MAX_LEN)
    made = make(config["method"], spec=spec)
    made.setup(train)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
        made.items.weight[0] = 0
        if method == "asarrec" and lively:
            made.augmenter.query.weight *= 3
            made.augmenter.null.weight *= 3
    return made.train()


def batch_of(train, method, size=10):
    negatives = NegativeSampler(train, ITEMS, 1, shared=False, power=0.0, seed=1)
    loader = TrainLoader(train, size, MAX_LEN, 1, negatives, prefixes=not method.backbone.causal)
    return next(loader.epoch(0))


class Steps:
    """Stands in for the trainer's update and notes the gradients of each step; `move` lets them act."""

    def __init__(self, method, move=0.0):
        self.method, self.move, self.made = method, move, []

    def __call__(self, loss, *groups):
        self.method.zero_grad(set_to_none=True)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in self.method.named_parameters() if p.grad is not None}
        self.made.append((groups, float(loss.detach()), gradients))
        with torch.no_grad():
            for group in groups:
                for parameter in self.method.param_groups()[group].parameters:
                    if parameter.grad is not None:
                        parameter -= self.move * parameter.grad


# --- the slow version ------------------------------------------------------------------------------------------


def slow_views(method, batch):
    """One entry per augmented history: items, its slots, matrices S and H per view, and the views as sources per slot (or None)."""
    found, users = [], set()
    for row in range(len(batch.seq)):
        history = [item for item in batch.seq[row].tolist() if item]
        if len(history) < method.shortest or int(batch.user[row]) in users:
            continue
        users.add(int(batch.user[row]))
        n, candidates = len(history), method.candidates(batch, torch.tensor([row]))[0].tolist()
        if method.beside:  # a candidate and its item, in turn
            items = [item for pair in zip(candidates[-n:], history, strict=True) for item in pair]
            own = list(range(1, 2 * n, 2))
        else:
            items, own = [*reversed(candidates), *history], list(range(K, K + n))
        size = len(items)
        original = torch.tensor([slot in own for slot in range(size)])
        x = method.items.weight[items].detach()
        if method.augmenter_sees == "states":
            x = slow_states(method, items, own)
        target = torch.ones(size, dtype=torch.bool)
        inputs = (part[None] for part in (x, torch.tensor(items) > 0, original, target))
        soft = semi_sinkhorn(method.augmenter(*inputs), method.rules.iterations, method.rules.power)
        hard = discretise(soft, method.rules.threshold)
        views = []
        for view in range(2):
            source = [None] * size
            for i in range(size):
                for j in range(size):
                    if hard[0, view, i, j] == 1:
                        source[j] = i
            kept = sum(i in own for i in source)
            fallback = kept < max(1, math.ceil(0.4 * n))
            views.append([slot if slot in own else None for slot in range(size)] if fallback else source)
        found.append((items, own, soft, hard, original[None], views, x))
    return found


def slow_states(method, items, own):
    """What the augmenter sees of candidates and history: embeddings and states, each normalised over its entries."""
    training, n = method.backbone.training, len(own)
    method.backbone.eval()
    first = method.backbone.max_len - n
    if method.backbone.count_from == "start":
        first = 0 if method.beside else K
    history = method.items.weight[[items[slot] for slot in own]][None]
    states = method.backbone(history, torch.ones(1, n).bool(), torch.arange(first, first + n)[None])[0]
    method.backbone.train(training)
    found = []
    for slot, item in enumerate(items):
        vector = states[own.index(slot)] if slot in own else method.items.weight[item]
        centred = vector - sum(vector) / DIM
        found.append(centred / (sum(centred**2) / DIM + 1e-5).sqrt())
    return torch.stack(found).detach()


def slow_state(method, x, occupied, bias=None):
    """What is compared of one row of embeddings, with the positions of the main task: the state of the last occupied slot, or all."""
    size = len(occupied)
    if method.compact or method.beside:
        order = [slot for slot in range(size) if not occupied[slot]] + [slot for slot in range(size) if occupied[slot]]
        x, occupied = [x[slot] for slot in order], [occupied[slot] for slot in order]
        bias = bias and [bias[slot] for slot in order]
    first = 0 if method.backbone.count_from == "start" else method.backbone.max_len - size
    places = torch.arange(first, first + size)[None]
    if method.beside and method.backbone.count_from == "start":
        places = (places - occupied.index(True)).clamp(min=0)  # the oldest item of the view is the first
    hidden = method.backbone(
        *(torch.stack(x)[None], torch.tensor(occupied)[None], places),
        key_bias=None if bias is None else torch.stack(bias)[None],
    )
    if method.contrast.vector == "last":
        return hidden[0, max(slot for slot in range(size) if occupied[slot])]
    states = [hidden[0, slot] if occupied[slot] else torch.zeros(DIM) for slot in range(size)]
    return torch.cat([torch.zeros((method.backbone.max_len - size) * DIM), *states])


def slow_contrast(states, contrast):
    """states: one pair per history."""
    temperature = contrast.temperature
    if contrast.cosine:
        states = [[state / state.norm() for state in pair] for pair in states]
    anchors = [(i, v) for i in range(len(states)) for v in range(2)]
    total = 0.0
    for i, v in anchors:
        own = torch.exp(states[i][v] @ states[i][1 - v] / temperature)
        rest = sum(torch.exp(states[i][v] @ states[a][w] / temperature) for a, w in anchors if (a, w) != (i, v))
        total = total - torch.log(own / rest)
    return total / len(anchors)


def slow_ndcg(matrix, hard, own, variant):
    """NDCG by slots (D) or by ranks (R) of one view; of R the moves are those of the hard matrix."""
    total = ideal = 0.0
    for age, i in enumerate(reversed(own)):
        weight = 1 / math.log2(age + 2)
        ideal += weight
        for j in range(len(matrix)):
            others = [(a, b) for a in own for b in range(len(matrix)) if a != i and hard[a, b] == 1]
            move = abs(sum(b > j for _, b in others) - sum(a > i for a, _ in others))
            move = abs(i - j) if variant == "D" else move
            total = total + matrix[i, j] * weight / math.log2(move + 2)
    return total / ideal


def slow_worst(n, share):
    """What is left without the heaviest max(1, ceil(n / 10)) items, times the share of the user."""
    weights = [1 / math.log2(age + 2) for age in range(n)]
    allowed, lost = share * max(1, math.ceil(round(0.1 * n, 6))), 0.0
    for rank, weight in enumerate(weights):
        lost = lost + weight * (allowed - rank).clamp(0, 1)
    return 1 - lost / sum(weights)


def slow_shares(method, found):
    """One share for each history; their mean is 1."""
    if not hasattr(method.augmenter, "shares"):
        return [torch.tensor(1.0)] * len(found)
    powers = []
    for _, own, _, _, _, _, x in found:
        mean = sum(x[slot] for slot in own) / len(own)
        powers.append(torch.exp(mean @ method.augmenter.shares.score))
    return [power / (sum(powers) / len(powers)) for power in powers]


def slow_augmenter_loss(method, batch):
    """The augmenter's loss; the weight of diversity is part of it."""
    states, distances, invariance = [], [], []
    found = slow_views(method, batch)
    for (items, own, soft, hard, _, views, _), share in zip(found, slow_shares(method, found), strict=True):
        matrix, size = hard + (soft - soft.detach()), len(items)
        pair = []
        for view in range(2):
            x = method.items.weight[items].detach()
            literal = [sum(matrix[0, view, i, j] * x[i] for i in range(size)) for j in range(size)]
            identity = [slot if slot in own else None for slot in range(size)]
            made = [next((i for i in range(size) if hard[0, view, i, j] == 1), None) for j in range(size)]
            held = [sum(matrix[0, view, i, j] for i in range(size)) for j in range(size)]
            if views[view] == identity and made != identity:
                literal, held = list(x), [torch.tensor(1.0)] * size
            occupied = [i is not None for i in views[view]]
            bias = [torch.log(h) if there else torch.tensor(0.0) for h, there in zip(held, occupied, strict=True)]
            pair.append(slow_state(method, literal, occupied, bias if method.occupancy else None))
            ndcg = slow_ndcg(matrix[0, view], hard[0, view], own, method.rules.invariance)
            invariance.append(torch.relu(slow_worst(len(own), share) - ndcg))
        states.append(pair)
        soft_d = ((soft[0, 0] - soft[0, 1]) ** 2).sum() / (2 * len(own))
        hard_d = ((hard[0, 0] - hard[0, 1]) ** 2).sum() / (2 * len(own))
        distances.append(soft_d + (hard_d - soft_d).detach())
    diversity = sum(torch.relu(0.5 - d) for d in distances) / len(distances)
    weighted = 0.1 * diversity
    if hasattr(method.augmenter, "multiplier"):  # a saddle: descent on the views, ascent on the weight
        log = method.augmenter.multiplier.log
        missing = sum(0.5 - d.detach() for d in distances) / len(distances)
        weighted = torch.exp(log).detach() * diversity - (torch.exp(log) - torch.exp(log).detach()) * missing
    sign = method.info_weight
    return sign * slow_contrast(states, method.contrast) + weighted + torch.stack(invariance).mean()


def slow_recommender_loss(method, batch):
    table, terms = method.items.weight, []
    for row in range(len(batch.seq)):
        slots = [slot for slot in range(batch.seq.shape[1]) if batch.seq[row, slot] > 0]
        n = len(slots)
        first = method.backbone.max_len - n
        if method.backbone.count_from == "start":
            first = 0 if method.beside else K
        positions = torch.arange(first, first + n)[None]
        hidden = method.backbone(table[batch.seq[row, slots]][None], torch.ones(1, n).bool(), positions)[0]
        for place, slot in enumerate(slots):
            if batch.target[row, slot] > 0:
                own = hidden[place] @ table[batch.target[row, slot]]
                other = hidden[place] @ table[batch.negative[row, slot, 0]]
                terms.append(-torch.log(torch.sigmoid(own)) - torch.log(1 - torch.sigmoid(other)))
    states = []
    for items, _, _, _, _, views, _ in slow_views(method, batch):
        pair = []
        for source in views:
            x = [torch.zeros(DIM) if i is None else table[items[i]] for i in source]
            pair.append(slow_state(method, x, [i is not None for i in source]))
        states.append(pair)
    return torch.stack(terms).mean() + 0.1 * slow_contrast(states, method.contrast)


def gradients_of(method, loss, names):
    parameters = [parameter for name, parameter in method.named_parameters() if name in names]
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def names_of(method, player):
    return [name for name, _ in method.named_parameters() if name.startswith("augmenter.") == (player == "augmenter")]
