"""What a run will take, told before it is begun: memory from sizes, seconds from a few steps and a few users."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seqrec.data.split import EvalSplit
from seqrec.evaluation.evaluator import Evaluator
from seqrec.losses import CrossEntropy
from seqrec.training.trainer import Trainer

PROBE = 7  # values of the parameter that an optimiser is tried on
SECONDS = 1.5  # of steps, and of ranking, after one of each that warms up
MANY_ITEMS, MANY_USERS = 100_000, 20_000


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs at once; what a backbone keeps for its gradient comes on top, and does not grow with the data."""

    parameters: int
    gradients: int
    optimizer: int
    logits: int  # of a chunk of the loss with the table's gradient, or of a chunk of the ranking, whichever is larger
    data: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


def memory(trainer: Trainer, evaluator: Evaluator, data: int) -> Memory:
    """Return what training and ranking need; `data` is the bytes of the prepared data. The trainer's stage has begun."""
    method, row = trainer.method, 4 * (evaluator.num_items + 1)
    sparse = {
        module.weight for module in method.modules() if isinstance(module, nn.Embedding) and module.sparse
    }  # their gradients are those of a batch's rows
    parameters = list(method.parameters())
    logits = evaluator.users_at_once * row
    if isinstance(method.loss, CrossEntropy):
        logits = max(logits, method.loss.chunk * row + _bytes(method.items.weight))
    return Memory(
        sum(map(_bytes, parameters)),
        sum(_bytes(parameter) for parameter in parameters if parameter not in sparse),
        sum(
            _state(trainer.optimizers[name], parameter)
            for name, group in trainer.parameters.items()
            for parameter in group
        ),
        logits,
        data,
    )


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> int:
    """Return the bytes that an optimiser keeps for a parameter, found out on a small one."""
    probe = nn.Parameter(torch.zeros(PROBE, dtype=parameter.dtype, device=parameter.device))
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key in optimizer.defaults}
    alike = type(getattr(optimizer, "optimizer", optimizer))([probe])
    alike.param_groups[0].update(settings)
    probe.grad = torch.ones_like(probe)
    alike.step()
    kept = [value for value in alike.state[probe].values() if isinstance(value, torch.Tensor)]
    per_value = sum(_bytes(value) for value in kept if value.numel() == PROBE) // PROBE
    return per_value * parameter.numel() + sum(_bytes(value) for value in kept if value.numel() != PROBE)


def epoch_seconds(trainer: Trainer, epoch: int) -> float:
    """Return the seconds of an epoch, from its preparation and as many steps as fit into `SECONDS`; changes the weights."""
    began = time.monotonic()
    trainer.method.on_epoch(epoch)
    trainer.method.train()
    prepared, seconds = time.monotonic() - began, []
    for batch in trainer.loader.epoch(epoch):
        began = time.monotonic()
        trainer.step(batch)
        trainer.read()
        seconds.append(time.monotonic() - began)
        if trainer.fabric.broadcast(len(seconds) > 2 and sum(seconds[1:]) > SECONDS):
            break
    return prepared + len(trainer.loader) * float(np.mean(seconds[1:] or seconds))


def user_seconds(evaluator: Evaluator, method: nn.Module, split: EvalSplit, device: torch.device) -> float:
    """Return the seconds that ranking takes for a user, from users of all lengths, as many as fit into `SECONDS`."""
    count, seconds = evaluator.users_at_once, 0.0
    for _ in range(8):
        rows = np.linspace(0, len(split.user) - 1, min(count, len(split.user))).astype(int)
        began = time.monotonic()
        evaluator.ranks(method, split.take(rows), device)
        seconds = time.monotonic() - began
        if seconds > SECONDS / 4 or count >= len(split.user):
            break
        count *= 4
    return seconds / len(rows)


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on an accelerator or in the machine; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    listed = Path("/proc/meminfo")
    lines = dict(line.split(":") for line in listed.read_text().splitlines()) if listed.exists() else {}
    return 1024 * int(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else None


def estimate(
    trainer: Trainer | None,
    scorer: nn.Module,
    evaluator: Evaluator,
    valid: EvalSplit,
    test: EvalSplit,
    data: int,
    device: torch.device,
) -> Iterator[str]:
    """Yield lines on memory and time, and on what would help; without a trainer on the ranking alone. Changes the weights."""
    full_softmax = trainer is not None and trainer.method.loss.whole_table and evaluator.num_items >= MANY_ITEMS
    if trainer is not None:
        trainer.method.on_start()
        trainer.begin_stage()
        needed, free = memory(trainer, evaluator, data), available_memory(device)
        listed = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in asdict(needed).items())
        yield f"memory: {listed}; together {needed.total / 1e9:,.2f} GB" + (
            f" of {free / 1e9:,.1f} GB free" if free else ""
        )
        # the parameters are there already, and so are the data
        if free is not None and needed.gradients + needed.optimizer + needed.logits > free:
            yield (
                "this run will not fit into memory; loss=sampled_softmax or another loss with negatives makes no logits of the "
                "whole catalogue, and lets trainer.sparse=true do without the gradient of the whole table; a smaller dim helps too"
            )
            return
        seconds = epoch_seconds(trainer, 0)
        yield f"time: {seconds:,.1f} s per epoch ({len(trainer.loader):,} steps)"
        if trainer.method.stages > 1 or trainer.method.patience_from:
            trainer.state.stage = trainer.method.stages - 1
            trainer.begin_stage()
            seconds = epoch_seconds(trainer, trainer.method.patience_from)
            yield f"time: {seconds:,.1f} s per epoch later, when all of the method takes part"
        if full_softmax:
            yield f"loss=sampled_softmax trains faster on {evaluator.num_items:,} items"
    each = user_seconds(evaluator, scorer, valid, device)
    yield (
        f"time: {each * len(valid.user):,.1f} s per validation ({len(valid.user):,} users), "
        f"{each * len(test.user):,.1f} s for the test set ({len(test.user):,} users)"
    )
    if trainer is not None and len(valid.user) > MANY_USERS and each * len(valid.user) > seconds:
        yield f"validation takes longer than an epoch: eval.valid_users={MANY_USERS} ranks a subset of the users"
