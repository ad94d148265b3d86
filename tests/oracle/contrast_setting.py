"""A contrastive method on a few sequences, and slow readings of its parts, for the oracles of CL4SRec, CoSeRec and LMA4Rec."""

import functools
import math

import torch
from method_setting import LOSSES, configure

from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.data.split import LeaveOneOut
from seqrec.methods.base import ModelSpec
from seqrec.utils.instantiate import make

ITEMS, MAX_LEN, DIM = 12, 6, 4
# longer than MAX_LEN, with repeats, too short to train on, empty
ROWS = [[1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 9, 1], [3], [], [10, 9], [5, 2, 5, 2, 1, 3, 4, 6, 7, 8], [11, 2, 3], [8, 9]]
NO_DROPOUT = {
    "sasrec": ("backbone.dropout=0", "backbone.attention_dropout=0", "backbone.inner_dropout=0"),
    "gru4rec": ("backbone.dropout=0", "backbone.embedding_dropout=0"),
    "fmlprec": ("backbone.dropout=0", "backbone.embedding_dropout=0"),
}
SMALL = {
    "sasrec": ("backbone.layers=2",),
    "gru4rec": ("backbone.layers=2", "backbone.hidden=6"),
    "fmlprec": ("backbone.layers=2",),
}


class Setting:
    """A method after setup on ROWS, its loader and its first training batch."""

    def __init__(self, sequences_of, name, *keys, loss="bce", backbone="sasrec", dropout=False, rows=ROWS, dim=DIM):
        quiet = () if dropout else NO_DROPOUT[backbone]
        values = configure(
            f"method={name}", f"loss={loss}", f"backbone={backbone}", *LOSSES[loss], *SMALL[backbone], *quiet, *keys
        )
        torch.manual_seed(3)
        next_item = make(values["loss"])
        train_part, sampler = sequences_of(rows), None
        if next_item.negatives:
            sampler = NegativeSampler(train_part, ITEMS, next_item.negatives, next_item.shared, 0.0, seed=1)
        spec = ModelSpec(make(values["backbone"]), next_item, ITEMS, dim, MAX_LEN)
        self.method = make(values["method"], spec=spec)
        self.loader = TrainLoader(train_part, 8, MAX_LEN, 1, sampler, prefixes=not self.method.backbone.causal)
        self.batch = next(self.loader.epoch(0))
        self.method.setup(train_part)
        with torch.no_grad():
            for name, parameter in self.method.named_parameters():
                if not name.endswith("logit"):
                    parameter.add_(0.3 * torch.randn_like(parameter))  # away from symmetric starting points
            self.method.items.weight[0] = 0


def literal_states(method, view, taken):
    """Return {slot: state [D]} of one view, encoded by itself at the positions its items have among `taken`."""
    width, first = len(view), taken.int().argmax().item()
    slots = [slot for slot in range(width) if view[slot] > 0]
    if method.backbone.count_from == "end":
        positions = [method.max_len - width + slot for slot in slots]
    else:
        positions = [slot - first for slot in slots]
    if method.backbone.causal:
        hidden = method.encode(view[slots][None], positions=torch.tensor([positions]))[0]
        return dict(zip(slots, hidden, strict=True))
    hidden = method.encode(view[None])[0]
    return {slot: hidden[slot] for slot in slots}


def literal_next_item(method, batch):
    """Return the binary cross-entropy of each row's slots with one negative, as lists by row."""
    rows = []
    for row in range(len(batch.user)):
        states = literal_states(method, batch.seq[row], batch.seq[row] > 0)
        losses = []
        for slot, state in states.items():
            target = batch.target[row, slot]
            if target > 0:
                own = (state @ method.items.weight[target]).item()
                other = (state @ method.items.weight[batch.negative[row, slot, 0]]).item()
                losses.append(-math.log(1 / (1 + math.exp(-own))) - math.log(1 - 1 / (1 + math.exp(-other))))
        rows.append(losses)
    return rows


def literal_contrast(method, batch, views, taken, vector):
    """Return the NT-Xent loss of each anchor: dot products, temperature 1, views of one user left out."""
    vectors = []
    for view, used in zip(views, taken, strict=True):
        states = literal_states(method, view, used)
        if vector == "last":
            vectors.append(states[max(states)].tolist())
        else:
            zeros = [0.0] * method.items.embedding_dim
            vectors.append(
                [x for slot in range(len(view)) for x in (states[slot].tolist() if slot in states else zeros)]
            )
    whose, half, losses = batch.user.tolist() * 2, len(batch.user), []
    for a in range(2 * half):
        dots = [sum(x * y for x, y in zip(vectors[a], other, strict=True)) for other in vectors]
        own = dots[(a + half) % (2 * half)]
        kept = [own] + [dots[m] for m in range(2 * half) if whose[m] != whose[a]]
        top = max(kept)
        losses.append(top + math.log(sum(math.exp(value - top) for value in kept)) - own)
    return losses


def train_on_synthetic(noise, epochs, *keys):
    """Train on a small synthetic set and return the method and the logs of every step."""
    values = configure(
        "dataset.users=300", "dataset.items=200", "dataset.clusters=8", f"dataset.noise_share={noise}", *keys
    )
    dataset = make(values["dataset"], name="synthetic").load(None, None)
    split = LeaveOneOut()(dataset)
    torch.manual_seed(1)
    loss = make(values["loss"])
    spec = ModelSpec(make(values["backbone"]), loss, dataset.num_items, 32, values["max_len"])
    method = make(values["method"], spec=spec)
    sampler = NegativeSampler(split.train, dataset.num_items, loss.negatives, loss.shared, loss.power, seed=1)
    loader = TrainLoader(split.train, 64, values["max_len"], 1, sampler)
    method.setup(split.train)
    groups = method.param_groups()
    plain = functools.partial(torch.optim.Adam, lr=0.002)
    optimizers = [(group.optimizer or plain)(list(group.parameters)) for group in groups.values()]

    def update(total):
        for optimizer in optimizers:
            optimizer.zero_grad()
        total.backward()
        for optimizer in optimizers:
            optimizer.step()

    logs = []
    for epoch in range(epochs):
        method.on_epoch(epoch)
        for batch in loader.epoch(epoch):
            logs.append({name: value.item() for name, value in method.optimize(batch, update).items()})
    return method, logs


def contrast_is_alive(experiment, log):
    """Assert that the positive is told from the other views more often than by chance: 1 of 2N - 1 = 127, N = 64."""
    assert log["train/contrast_accuracy"] > 3 / 127
