"""A small AsarRec that makes all kinds of views, and a slow version of its losses that takes one history at a time."""

import math
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.methods.asarrec import objectives
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn
from seqrec.methods.base import ModelSpec
from seqrec.utils.instantiate import make

CONF = str(Path(__file__).parents[2] / "conf")
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
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides), resolve=True)
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
    """One entry per augmented history: items, matrices S and H per view, and the views as sources per slot (or None)."""
    found, users = [], set()
    for row in range(len(batch.seq)):
        history = [item for item in batch.seq[row].tolist() if item]
        if len(history) < method.shortest or int(batch.user[row]) in users:
            continue
        users.add(int(batch.user[row]))
        candidates = method.candidates(batch, torch.tensor([row]))[0].tolist()
        items, n = [*reversed(candidates), *history], len(history)
        original = torch.tensor([slot >= K for slot in range(n + K)])
        x = method.items.weight[items].detach()
        if method.augmenter_sees == "states":
            x = slow_states(method, items, n)
        target = torch.ones(n + K, dtype=torch.bool)
        inputs = (part[None] for part in (x, torch.tensor(items) > 0, original, target))
        soft = semi_sinkhorn(method.augmenter(*inputs), method.iterations, method.power)
        hard = discretise(soft, method.threshold)
        views = []
        for view in range(2):
            source = [None] * (n + K)
            for i in range(n + K):
                for j in range(n + K):
                    if hard[0, view, i, j] == 1:
                        source[j] = i
            kept = sum(i is not None and i >= K for i in source)
            fallback = kept < max(1, math.ceil(0.4 * n))
            views.append([slot if slot >= K else None for slot in range(n + K)] if fallback else source)
        found.append((items, n, soft, hard, original[None], views))
    return found


def slow_states(method, items, n):
    """What the augmenter sees of candidates and history: embeddings and states, each normalised over its entries."""
    training = method.backbone.training
    method.backbone.eval()
    first = K if method.backbone.count_from == "start" else MAX_LEN + K - n
    history = method.items.weight[items[K:]][None]
    states = method.backbone(history, torch.ones(1, n).bool(), torch.arange(first, first + n)[None])[0]
    method.backbone.train(training)
    found = []
    for vector in [*method.items.weight[items[:K]], *states]:
        centred = vector - sum(vector) / DIM
        found.append(centred / (sum(centred**2) / DIM + 1e-5).sqrt())
    return torch.stack(found).detach()


def slow_state(method, x, occupied, bias=None):
    """What is compared of one row of embeddings, with the positions of the main task: the state of the last occupied slot, or all."""
    size = len(occupied)
    if method.compact:
        order = [slot for slot in range(size) if not occupied[slot]] + [slot for slot in range(size) if occupied[slot]]
        x, occupied = [x[slot] for slot in order], [occupied[slot] for slot in order]
        bias = bias and [bias[slot] for slot in order]
    first = 0 if method.backbone.count_from == "start" else MAX_LEN + K - size
    hidden = method.backbone(
        *(torch.stack(x)[None], torch.tensor(occupied)[None], torch.arange(first, first + size)[None]),
        key_bias=None if bias is None else torch.stack(bias)[None],
    )
    if method.contrast.vector == "last":
        return hidden[0, max(slot for slot in range(size) if occupied[slot])]
    states = [hidden[0, slot] if occupied[slot] else torch.zeros(DIM) for slot in range(size)]
    return torch.cat([torch.zeros((MAX_LEN + K - size) * DIM), *states])


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


def slow_augmenter_loss(method, batch):
    states, diversity, invariance = [], [], []
    for items, n, soft, hard, original, views in slow_views(method, batch):
        matrix = hard + (soft - soft.detach())
        pair = []
        for view in range(2):
            own = method.items.weight[items].detach()
            literal = [sum(matrix[0, view, i, j] * own[i] for i in range(n + K)) for j in range(n + K)]
            identity = [slot if slot >= K else None for slot in range(n + K)]
            made = [next((i for i in range(n + K) if hard[0, view, i, j] == 1), None) for j in range(n + K)]
            held = [sum(matrix[0, view, i, j] for i in range(n + K)) for j in range(n + K)]
            if views[view] == identity and made != identity:
                literal, held = list(own), [torch.tensor(1.0)] * (n + K)
            occupied = [i is not None for i in views[view]]
            bias = [torch.log(h) if there else torch.tensor(0.0) for h, there in zip(held, occupied, strict=True)]
            pair.append(slow_state(method, literal, occupied, bias if method.occupancy else None))
            ndcg = objectives.sequence_ndcg(matrix, original, "D")[0, view]
            invariance.append(torch.relu(objectives.worst_ndcg(original, "D", 0.1)[0] - ndcg))
        states.append(pair)
        soft_d = ((soft[0, 0] - soft[0, 1]) ** 2).sum() / (2 * n)
        hard_d = ((hard[0, 0] - hard[0, 1]) ** 2).sum() / (2 * n)
        diversity.append(torch.relu(0.5 - (soft_d + (hard_d - soft_d).detach())))
    contrast = slow_contrast(states, method.contrast)
    return -contrast + 0.1 * torch.stack(diversity).mean() + torch.stack(invariance).mean()


def slow_recommender_loss(method, batch):
    table, terms = method.items.weight, []
    for row in range(len(batch.seq)):
        slots = [slot for slot in range(batch.seq.shape[1]) if batch.seq[row, slot] > 0]
        n = len(slots)
        first = K if method.backbone.count_from == "start" else MAX_LEN + K - n
        positions = torch.arange(first, first + n)[None]
        hidden = method.backbone(table[batch.seq[row, slots]][None], torch.ones(1, n).bool(), positions)[0]
        for place, slot in enumerate(slots):
            if batch.target[row, slot] > 0:
                own = hidden[place] @ table[batch.target[row, slot]]
                other = hidden[place] @ table[batch.negative[row, slot, 0]]
                terms.append(-torch.log(torch.sigmoid(own)) - torch.log(1 - torch.sigmoid(other)))
    states = []
    for items, _, _, _, _, views in slow_views(method, batch):
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
