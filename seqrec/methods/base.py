"""The two kinds of methods: `Method`, trained (by itself the plain baseline), and `Untrained`, which only counts.

Both have `refuse`, `setup` and `score`; neither inherits from the other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from seqrec.backbones.base import Backbone
from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.losses import NextItemLoss


@dataclass(frozen=True)
class ModelSpec:
    """Arguments that all trained methods have in common."""

    backbone: Callable[..., Backbone]  # takes dim and max_len
    loss: NextItemLoss
    num_items: int  # V
    dim: int  # D
    max_len: int
    sparse: bool = False  # whether the gradient of the item table has only the rows that were looked up
    attributes: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # kind -> [V + 1, A] values of the items, 0: none


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that one optimiser updates; None: the optimiser and clip of the trainer's configuration."""

    parameters: Iterable[nn.Parameter]
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    clip: float | None = None  # largest L2 norm of the group's gradient


class Method(nn.Module):
    """Backbone + item table + next-item loss (the plain baseline).

    Subclasses override as little as they need; `losses` is enough for most.
    """

    trained = True
    finished_runs: tuple[str, ...] = ()  # keys that name the directory of another run, which must be complete
    goes_on_from: str | None = None  # that of them whose run must be plain training of the same model on the same data
    stages = 1  # consecutive trainings, each from the best weights of the previous one
    patience_from = 0  # epochs before which an evaluation without improvement does not count towards stopping

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.max_len, self.loss = spec.max_len, spec.loss
        self.items = nn.Embedding(spec.num_items + 1, spec.dim, padding_idx=0, sparse=spec.sparse)
        nn.init.normal_(self.items.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[0] = 0
        self.backbone = spec.backbone(dim=spec.dim, max_len=spec.max_len)

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Return why the method cannot work with this loss or backbone class, or None if it can."""
        if loss is None or backbone is None:
            return "it is trained: choose a backbone and a loss other than 'none'"
        return None

    @property
    def newest_alone(self) -> bool:
        """Whether only the last slot is supervised, as with a backbone that is not causal."""
        return not self.backbone.causal

    def setup(self, train: Sequences) -> None:
        """Compute statistics of the training sequences, once, before the first epoch."""

    def on_start(self) -> None:
        """Take over what training starts from; not called where a run is resumed."""

    def on_stage(self, stage: int) -> int | None:
        """Begin a stage (from 0) and return its length in epochs; None trains until early stopping.

        Each later stage has new optimisers, and its best epoch is one of its own epochs.
        """
        return None

    def on_epoch(self, epoch: int) -> None:
        """Prepare for an epoch (from 0): warm-up, thresholds, refreshed similarity."""

    def param_groups(self) -> dict[str, ParamGroup]:
        """Partition the parameters by the optimiser that updates them."""
        return {"model": ParamGroup(self.parameters())}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return scalars by name: "loss" is minimised, the rest is logged."""
        return {"loss": self.next_item_loss(self.encode(batch.seq, newest=self.newest_alone), batch)}

    def optimize(self, batch: Batch, update: Callable[..., None]) -> dict[str, Tensor]:
        """Make one step and return values to log; override it only to update several groups in turn."""
        logs = self.losses(batch)
        update(logs["loss"])
        return logs

    def next_item_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the mean next-item loss of hidden states [B, T, D] over the supervised slots."""
        supervised = batch.target > 0
        given = (hidden[supervised], batch.target[supervised], self.items.weight, batch.negatives_at(supervised))
        return self.loss(*given, **self.loss.context(batch, supervised))

    def encode(
        self, seq: Tensor, x: Tensor | None = None, positions: Tensor | None = None, newest: bool = False
    ) -> Tensor:
        """Return hidden states [B, T, D] of item ids seq [B, T]; embeddings x [B, T, D] replace the look-up.

        With `newest` only the state of the last slot is valid; a backbone that is not causal is trained on no other.
        """
        if x is None:
            return self.backbone(seq, seq > 0, positions, newest, look_up=self.items)
        return self.backbone(x, seq > 0, positions, newest)

    def score(self, batch: Batch) -> Tensor:
        """Return the score of every item as the next one, [B, V + 1]."""
        return self.encode(batch.seq, newest=True)[:, -1] @ self.items.weight.T

    def keep_probability(self, batch: Batch) -> Tensor | None:
        """Return the probability that each item of the histories is kept, 0 on padding, [B, T]; None if none is ever dropped."""
        return None

    def position_profile(self, batch: Batch) -> dict[str, Tensor]:
        """Return diagnostics for figures, by name: a value per slot [B, T] or per pair of slots [B, T, T], NaN where there is none."""
        return {}


class Untrained(nn.Module):
    """Base of the counting baselines: `setup(train)` counts, once, and `score(batch)` returns [B, V + 1] as in `Method`."""

    trained = False
    finished_runs = ()
    goes_on_from = None

    def __init__(self, num_items: int, max_len: int):
        super().__init__()
        self.num_items, self.max_len = num_items, max_len

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Return why the method cannot work with this loss or backbone class, or None if it can."""
        if loss is not None or backbone is not None:
            return "it counts and is not trained: leave out backbone= and loss="
        return None

    def tune_on_validation(self, evaluate: Callable[[], float]) -> str:
        """Tune a free hyper-parameter on validation and return a line for the log, or ""; `evaluate` returns the monitored metric."""
        return ""
