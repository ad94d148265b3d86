"""Combinations that cannot work, refused before any data is read."""

from pathlib import Path

from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from omegaconf import DictConfig, OmegaConf

from seqrec.config import flatten, hashed_values, with_younger_keys
from seqrec.loggers.base import make_loggers
from seqrec.methods.base import Method, Untrained
from seqrec.methods.counts import Counts
from seqrec.runs.directory import RunDir
from seqrec.training.lazy_adam import why_dense
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate, make


def refuse_impossible(config: DictConfig, multirun: bool, resumed: bool = False) -> None:
    """Raise UserError for a combination that cannot work, before any data is read.

    A `resumed` run has taken what it needs of other runs.
    """
    loss, backbone = (
        locate(config[group]["_target_"]) if "_target_" in config[group] else None for group in ("loss", "backbone")
    )
    method = locate(config.method["_target_"])
    if not issubclass(method, Method | Untrained):
        raise UserError(f"method._target_={config.method['_target_']}: not a class of a method")
    refuse_fusion(config, method)
    if reason := method.refuse(loss, backbone):
        raise UserError(
            f"method={config.method.name} with backbone={config.backbone.name} loss={config.loss.name}: {reason}"
        )
    others = {} if resumed else {f"method.{key}": config.method[key] for key in method.finished_runs}
    others |= {f"fusion.runs[{number}]": folder for number, folder in enumerate(config.fusion.get("runs", []))}
    for key, folder in others.items():
        if folder is not None and not (isinstance(folder, str) and RunDir(Path(folder)).complete):
            raise UserError(f"{key}={folder}: no finished run there; give the directory of a complete run")
    if method.goes_on_from and not resumed and (folder := config.method[method.goes_on_from]) is not None:
        refuse_another_start(config, f"method.{method.goes_on_from}={folder}", RunDir(Path(folder)).config())
    make_loggers(OmegaConf.to_container(config.logger, resolve=True))
    optimizer = make(OmegaConf.to_container(config.trainer.optimizer, resolve=True), "trainer.optimizer")
    if reason := config.trainer.sparse is True and loss is not None and why_dense(loss, optimizer):
        raise UserError(f"trainer.sparse=true: {reason}")
    if loss is not None and loss.in_batch and not config.loss.get("negatives") and config.trainer.batch_size == 1:
        raise UserError(f"trainer.batch_size=1 with loss={config.loss.name}: its negatives are the batch's other users")
    if multirun and (config.trainer.devices, config.trainer.num_nodes) != (1, 1):
        raise UserError("trainer.devices > 1 does not work inside a multirun (-m): its processes outlive a job")
    refuse_other_processes(config.trainer.devices, config.trainer.num_nodes)


def refuse_another_start(config: DictConfig, key: str, other: DictConfig) -> None:
    """Raise UserError unless the run `key` was plain training of the same model on the same training set.

    Otherwise it may have been trained on what is a target here.
    """
    if not issubclass(Method, locate(other.method["_target_"])):
        raise UserError(f"{key}: a run of method={other.method.name}; give one of method=plain")
    ours, theirs = hashed_values(config), hashed_values(with_younger_keys(other))
    for values in (ours, theirs):
        if not values["noise"].get("ratio"):
            values["noise"] = {}  # clean data
    for name in ("dataset", "split", "noise", "backbone", "dim", "max_len"):
        if ours[name] != theirs[name]:
            flat = [flatten({name: values[name]}) for values in (ours, theirs)]
            differing = [part for part in flat[0] | flat[1] if flat[0].get(part) != flat[1].get(part)]
            raise UserError(f"{key}: it has another {', '.join(differing)} than this run")


def refuse_other_processes(devices: int | str, num_nodes: int) -> None:
    """Raise UserError if torchrun or Slurm has started this process, and not as many as there are devices."""
    launcher = next((kind for kind in (TorchElasticEnvironment, SLURMEnvironment) if kind.detect()), None)
    if launcher is None or devices == "auto":
        return
    started, name = launcher().world_size(), "torchrun" if launcher is TorchElasticEnvironment else "Slurm"
    if started != devices * num_nodes:
        raise UserError(
            f"trainer.devices={devices} trainer.num_nodes={num_nodes}: devices x nodes is {devices * num_nodes}, "
            f"but {name} started {started} processes; set both to what it was given"
        )


def refuse_fusion(config: DictConfig, method: type) -> None:
    """Raise UserError if the method cannot be fused, or needs fusion, or fusion has a wrong value."""
    fused = "_target_" in config.fusion
    if fused and not method.trained and not issubclass(method, Counts):
        raise UserError(
            f"fusion={config.fusion.name} with method={config.method.name}: fuse a trained method, or take method=counts"
        )
    if issubclass(method, Counts) and not fused:
        raise UserError("method=counts with fusion=none: it has no model; leave fusion out, or take fusion=runs")
    if fused:  # a wrong value is told before the model is trained
        make(OmegaConf.to_container(config.fusion, resolve=True), "fusion")
