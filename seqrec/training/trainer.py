"""The training loop: one update rule, early stopping, exact resume."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.loader import TrainLoader
from seqrec.methods.base import Method
from seqrec.training.progress import Progress
from seqrec.training.readings import READ_EVERY, Readings
from seqrec.training.schedules import SCHEDULES
from seqrec.utils.checkpoint import Checkpoints, random_state, restore_random_state
from seqrec.utils.errors import UserError
from seqrec.utils.gradients import clip
from seqrec.utils.processes import average_gradients

log = logging.getLogger("seqrec")
SMALLEST_LR_SCALE = 0.01  # plateaus lower the learning rate to no less than this fraction


@dataclass
class State:
    """How far a run has come; plain values only, so that a checkpoint can hold it."""

    stage: int = 0
    stage_began: int = 0  # epochs finished before this stage
    epoch: int = 0  # epochs finished
    step: int = 0  # batches of the next epoch that are done
    sums: dict[str, float] = field(default_factory=dict)  # of the logged values over these batches
    targets: int = 0  # supervised items of these batches
    epoch_seconds: float = 0.0  # spent on them
    best: float | None = None  # monitored metric
    best_epoch: int = 0
    waited: int = 0  # evaluations since the best one
    lr_scale: float = 1.0  # what is left of the learning rate after plateaus
    seconds: float = 0.0  # of training and validation
    earlier: float = 0.0  # of these, spent by earlier processes
    history: list[dict] = field(default_factory=list)  # one entry per epoch
    stopped: str = ""  # why training ended


@dataclass(eq=False)
class Trainer:
    """Trains a method until the monitored validation metric has not risen for `patience` evaluations.

    `validate` returns the validation metrics of the method as it is; `record` takes the history after every epoch.
    With several processes each trains on its shard of every batch, and gradients are averaged.
    """

    fabric: Fabric
    method: Method
    loader: TrainLoader
    validate: Callable[[], dict[str, float]]
    record: Callable[[list[dict]], None]
    checkpoints: Checkpoints
    progress: Progress
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: str
    warmup_epochs: float
    plateau: int | None
    plateau_factor: float
    clip: float | None
    monitor: str
    max_epochs: int
    eval_every: int
    patience: int
    max_minutes: float | None
    checkpoint_minutes: float
    state: State = field(default_factory=State)

    def __post_init__(self):
        self.readings = Readings(deferred=self.fabric.device.type != "cpu")

    def fit(self) -> State:
        """Train from the last checkpoint, if there is one, to the end; raises UserError when the loss diverges."""
        self.saved = time.monotonic()
        saved = self.checkpoints.load("last.pt")
        if saved is None:
            self.method.on_start()
            self.begin_stage()
        else:
            with self.checkpoints.damage_named("last.pt"):
                self._resume(saved)
            self._mend_best(saved["model"])
        self.started = time.monotonic() - self.state.seconds
        while self._goes_on():
            if self.state.step == 0:
                self.method.on_epoch(self.state.epoch)
            self._train_epoch()
            self._end_epoch()
            self.record(self.state.history)
            self._save_last()
            if self.state.best_epoch == self.state.epoch:  # after last.pt, from which a resumed run can make it
                self._save_best(self.method.state_dict())
        return self.state

    def _goes_on(self) -> bool:
        """Return whether there is an epoch to train; begins the next stage where one has ended."""
        if self.state.stopped and self.state.stage + 1 < self.method.stages and not self._out_of_time():
            self._next_stage()
            self._save_last()
        return not self.state.stopped

    def begin_stage(self) -> None:
        """Create the optimisers and schedulers of `state.stage`; the method decides how long it is."""
        length = self.method.on_stage(self.state.stage)
        self.stage_ends = self.state.stage_began + (self.max_epochs if length is None else length)
        self.patient = length is None
        if self.patient and self.method.patience_from >= self.max_epochs:
            log.warning(
                "warning: trainer.max_epochs=%d ends training before the method is complete, which it is after %d epochs",
                *(self.max_epochs, self.method.patience_from),
            )
        steps = len(self.loader)
        factor = SCHEDULES[self.schedule](
            self.warmup_epochs * steps, (self.stage_ends - self.state.stage_began) * steps
        )
        groups = self.method.param_groups()
        self.parameters = {name: list(group.parameters) for name, group in groups.items()}
        self.clips = {name: self.clip if group.clip is None else group.clip for name, group in groups.items()}
        self.optimizers, self.schedulers = {}, {}
        for name, group in groups.items():
            optimizer = (group.optimizer or self.optimizer)(self.parameters[name])
            self.optimizers[name] = self.fabric.setup_optimizers(optimizer)
            self.schedulers[name] = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: factor(step) * self.state.lr_scale
            )

    def _next_stage(self) -> None:
        """Begin the next stage from the best weights; its best epoch is one of its own."""
        state = self.state
        log.info("stage %d ended: %s", state.stage + 1, state.stopped)
        self.fabric.barrier()
        self.checkpoints.load_best(self.method)
        state.stage, state.stage_began = state.stage + 1, state.epoch
        state.best, state.waited, state.lr_scale, state.stopped = None, 0, 1.0, ""
        self.begin_stage()

    def update(self, loss: Tensor, *groups: str) -> None:
        """Step the optimisers of `groups` (default: all) down the gradient of `loss`.

        Raises Diverged if it is not finite; on an accelerator the next `read` does so, which comes before any checkpoint.
        """
        self.readings.check(loss, f"epoch {self.state.epoch + 1}, step {self.state.step + 1}")
        names = groups or tuple(self.optimizers)
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        for name in names:
            average_gradients(self.fabric, self.parameters[name])
            if self.clips[name] is not None:
                clip(self.parameters[name], self.clips[name])
            self.optimizers[name].step()
            self.schedulers[name].step()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Make a step on this process's share of a batch; returns the values to log."""
        if self.fabric.world_size > 1:
            batch = batch.shard(self.fabric.global_rank, self.fabric.world_size)
        with self.fabric.autocast():
            return self.method.optimize(batch.to(self.fabric.device), self.update)

    def read(self) -> float:
        """Wait for the device and add up what the steps have logged; returns the loss of the last one, raises Diverged."""
        self.readings.read(self.state.sums)
        return self.readings.latest

    def _train_epoch(self) -> None:
        state, first = self.state, self.state.step
        began = time.monotonic() - state.epoch_seconds
        self.method.train()
        with self.progress.epoch(state.epoch, len(self.loader), first) as bar:
            for batch in self.loader.epoch(state.epoch, first):
                supervised = int((batch.target > 0).sum())
                self.readings.add(self.step(batch))
                state.step += 1
                state.targets += supervised
                bar.step(supervised, loss=self.read)
                due = self._first_decides(time.monotonic() - self.saved > 60 * self.checkpoint_minutes)
                if due or state.step % READ_EVERY == 0:
                    self.read()
                state.epoch_seconds, state.seconds = time.monotonic() - began, time.monotonic() - self.started
                if self._out_of_time():
                    state.stopped = f"trainer.max_minutes={self.max_minutes} reached"
                    break
                if due and state.step < len(self.loader):
                    self._save_last()
            self.read()
        seconds = time.monotonic() - began
        rates = {"targets_per_second": round(state.targets / seconds), "train_seconds": round(seconds, 3)}
        logged = {name: total / state.step for name, total in state.sums.items()}
        lr = {f"lr/{name}": optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        state.epoch, state.step, state.sums, state.targets, state.epoch_seconds = state.epoch + 1, 0, {}, 0, 0.0
        state.history.append({"epoch": state.epoch, **{f"train/{k}": v for k, v in logged.items()}, **lr, **rates})

    def _end_epoch(self) -> None:
        state = self.state
        last = state.stopped or state.epoch == self.stage_ends
        if state.epoch % self.eval_every == 0 or last:
            began = time.monotonic()
            metrics = self.validate()
            entry = {f"valid/{name}": value for name, value in metrics.items()}
            state.history[-1] |= {**entry, "valid_seconds": round(time.monotonic() - began, 3)}
            if state.best is None or metrics[self.monitor] > state.best:
                state.best, state.best_epoch, state.waited = metrics[self.monitor], state.epoch, 0
            elif state.epoch > self.method.patience_from:
                state.waited += 1
                if self.plateau is not None and state.waited % self.plateau == 0:
                    state.lr_scale = max(SMALLEST_LR_SCALE, state.lr_scale * self.plateau_factor)
            if self.patient and state.waited >= self.patience:
                state.stopped = f"no better {self.monitor} in {self.patience} evaluations"
        if last and not state.stopped:
            state.stopped = f"{self.stage_ends - state.stage_began} epochs done"
        state.seconds = time.monotonic() - self.started
        self.progress.report(state.history[-1], best=state.best_epoch == state.epoch)

    def _save_last(self) -> None:
        self.saved = time.monotonic()
        others = [self.fabric.broadcast(random_state(), src=rank) for rank in range(1, self.fabric.world_size)]
        self._save(
            "last.pt",
            {
                "state": asdict(self.state),
                "model": self.method.state_dict(),
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "schedulers": {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()},
                "random": random_state(),
                **({"random_of_others": others} if others else {}),
            },
        )

    def _save_best(self, weights: dict[str, Tensor]) -> None:
        self._save("best.pt", {"model": weights, "epoch": self.state.epoch})

    def _save(self, name: str, state: dict) -> None:
        if self.fabric.is_global_zero:
            self.checkpoints.save(name, state)

    def _out_of_time(self) -> bool:
        if self.max_minutes is None:
            return False
        over = self.state.seconds > 60 * self.max_minutes
        return self._first_decides(over)

    def _first_decides(self, decision: bool) -> bool:
        """Return the decision of the first process, so that all do the same at the same step."""
        return self.fabric.broadcast(decision) if self.fabric.world_size > 1 else decision

    def _resume(self, saved: dict) -> None:
        self.state = State(**saved["state"])
        self.state.earlier = self.state.seconds
        self.begin_stage()
        if not (len(self.state.history) == self.state.epoch <= self.stage_ends and self.state.step < len(self.loader)):
            raise ValueError
        self.method.on_epoch(self.state.epoch)  # it may make buffers that the checkpoint then fills
        self.method.load_state_dict(saved["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
            self.schedulers[name].load_state_dict(saved["schedulers"][name])
        rank = self.fabric.global_rank
        restore_random_state(saved["random_of_others"][rank - 1] if rank else saved["random"])
        self.record(self.state.history)

    def _mend_best(self, weights: dict[str, Tensor]) -> None:
        """Make best.pt agree with last.pt, whose `weights` are given, wherever the process before ended.

        Raises UserError if the best weights are lost, and this epoch does not make them again.
        """
        state = self.state
        if state.best is None:  # best.pt is of the stage before, or not there yet
            return
        if state.best_epoch == state.epoch and state.step == 0:
            self._save_best(weights)
            return
        best = self.checkpoints.load("best.pt")
        if best is None:
            raise UserError(f"{self.checkpoints.folder / 'best.pt'} is missing; start again with force=true")
        if best.get("epoch") != state.best_epoch and not state.stopped:
            if best.get("epoch") != state.epoch + 1:
                raise UserError(
                    f"{self.checkpoints.folder / 'best.pt'} is of epoch {best.get('epoch')}, the best one was "
                    f"{state.best_epoch}; start again with force=true"
                )
            # earlier versions wrote best.pt first; where this epoch comes out as it did, it is the best one again
            log.warning(
                "warning: the best weights so far are lost; the best epoch is one from epoch %d on", state.epoch + 1
            )
            state.best = None
