"""A small method on a small training part, and the next-item losses slot by slot: shared by the tests of several methods."""

import functools

import job_setting
import torch
from omegaconf import OmegaConf

from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.methods.base import ModelSpec
from seqrec.utils.instantiate import make

ITEMS, MAX_LEN, DIM = 12, 5, 4
# longer than MAX_LEN, with repeats (also across users), too short to train on, empty
ROWS = [[1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 9, 1], [3], [], [10, 9], [5, 2, 5, 2, 5, 2, 1, 3, 4, 6, 7, 8], [11, 2, 3]]
NO_DROPOUT = {
    "sasrec": ("backbone.dropout=0", "backbone.attention_dropout=0", "backbone.inner_dropout=0", "backbone.layers=1"),
    "gru4rec": ("backbone.dropout=0", "backbone.embedding_dropout=0", "backbone.hidden=6"),
    "fmlprec": ("backbone.dropout=0", "backbone.embedding_dropout=0", "backbone.layers=1"),
}
LOSSES = {
    "bce": (),
    "bpr": ("loss.negatives=2",),
    "gbce": ("loss.negatives=3",),
    "sampled_softmax": ("loss.negatives=4",),
    "cross_entropy": ("loss.chunk=3",),
}


@functools.cache
def configure(*overrides: str) -> dict:
    return OmegaConf.to_container(job_setting.configure(*overrides), resolve=True)


class Setting:
    """A method after setup on `rows` and its first training batch; away from its initial values where `spread` is above 0."""

    def __init__(
        self,
        method,
        sequences_of,
        loss,
        backbone="sasrec",
        dropout=False,
        batch_size=4,
        rows=ROWS,
        spread=0.3,
        data_attributes=None,
        **keys,
    ):
        own = [f"method.{key}={'null' if value is None else value}" for key, value in keys.items()]
        quiet = () if dropout else NO_DROPOUT[backbone]
        choices = (f"method={method}", f"loss={loss}", f"backbone={backbone}", f"trainer.batch_size={batch_size}")
        values = configure(*choices, *LOSSES[loss], *quiet, *own)
        next_item, train, sampler = make(values["loss"]), sequences_of(rows), None
        if next_item.negatives:
            sampler = NegativeSampler(train, ITEMS, next_item.negatives, next_item.shared, 0.0, seed=1)
        self.spec = ModelSpec(
            make(values["backbone"]), next_item, ITEMS, DIM, MAX_LEN, attributes=data_attributes or {}
        )
        torch.manual_seed(3)
        self.method = make(values["method"], "method", spec=self.spec)
        self.method.setup(train)
        self.loader = TrainLoader(train, batch_size, MAX_LEN, 1, sampler, prefixes=not self.method.backbone.causal)
        self.batch = next(self.loader.epoch(0))
        with torch.no_grad():
            for name, parameter in self.method.named_parameters():
                parameter.add_(spread * torch.randn_like(parameter))
                if name.endswith("items.weight"):
                    parameter[0] = 0


def slot_loss(name, own, others):
    if name == "bce":
        return -torch.log(torch.sigmoid(own)) - sum(torch.log(1 - torch.sigmoid(o)) for o in others) / len(others)
    if name == "bpr":
        return -sum(torch.log(torch.sigmoid(own - o)) for o in others) / len(others)
    if name == "gbce":
        rate = len(others) / (ITEMS - 1)
        beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
        others_loss = -sum(torch.log(1 - torch.sigmoid(o)) for o in others)
        return (-beta * torch.log(torch.sigmoid(own)) + others_loss) / (len(others) + 1)
    return -torch.log(own.exp() / (own.exp() + sum(o.exp() for o in others)))


def gradients(method, total):
    names, parameters = zip(*method.named_parameters(), strict=True)
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g[1:] if name.endswith("items.weight") else g
        for name, p, g in zip(names, parameters, found, strict=True)
    }
