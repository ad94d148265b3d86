"""From the configuration to the objects of a run."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seqrec.config import config_hash, without_fusion
from seqrec.data.dataset import Dataset
from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.data.split import EvalSplit, Split
from seqrec.evaluation.evaluator import Evaluator
from seqrec.methods.base import Method, ModelSpec, Untrained
from seqrec.training.lazy_adam import LazyAdam, has_sparse_rows
from seqrec.training.progress import Progress
from seqrec.training.trainer import Trainer
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate, make


@dataclass
class Experiment:
    """Everything that one run works with."""

    config: DictConfig
    fabric: Fabric
    dataset: Dataset
    split: Split
    noise: dict  # what was done to the training histories; empty without noise
    method: Method | Untrained
    evaluator: Evaluator
    loader: TrainLoader | None  # None: the method is not trained
    scorer: nn.Module  # what is evaluated: the method, or the method fused with counts

    def validate(self) -> dict[str, float]:
        """Return the validation metrics of the method as it is; the processes share the users."""
        ranks = self.evaluator.ranks(self.method, self.split.valid, self.fabric.device, fabric=self.fabric)
        return self.evaluator.metrics(ranks)

    def questions(self, part: str) -> EvalSplit:
        """Return the "valid" or "test" questions for the scorer; raises UserError for those that its weights are fitted on."""
        if part == "valid" and self.scorer is not self.method:
            raise UserError(
                "--part valid: the weights of a fused run are fitted on the validation users; its metrics.json has "
                "cross-fitted figures. Take --part test, or the run without fusion"
            )
        return getattr(self.split, part)


def build(config: DictConfig) -> Experiment:
    """Load the data and build the method; raises UserError for what the user can fix."""
    values = OmegaConf.to_container(config, resolve=True)
    trainer = values["trainer"]
    fabric = make_fabric(trainer, locate(values["method"]["_target_"]).trained)
    if trainer["threads"] is not None:  # launching sets a number of its own
        torch.set_num_threads(trainer["threads"])
    dataset = make(values["dataset"], "dataset", name=values["dataset"]["name"]).load(
        values["data_dir"], values["cache_dir"]
    )
    split, noise = make(values["split"], "split")(dataset), {}
    if "_target_" in values["noise"]:
        split, noise = make(values["noise"], "noise")(dataset, split)
    split = split.with_valid_users(values["eval"]["valid_users"], dataset.user_ids)
    evaluator = make_evaluator(config, dataset, split)

    torch.manual_seed(values["seed"])
    facts, loader = {"num_items": dataset.num_items, "max_len": values["max_len"]}, None
    if "_target_" in values["loss"]:
        loss, backbone = make(values["loss"], "loss"), make(values["backbone"], "backbone")
        optimizer = make(trainer["optimizer"], "trainer.optimizer")
        loss.sparse = has_sparse_rows(trainer["sparse"], loss, optimizer, dataset.num_items)
        known = {"sparse": loss.sparse, "attributes": dataset.attributes}
        facts = {"spec": ModelSpec(backbone, loss, dim=values["dim"], **known, **facts)}
    method = make(values["method"], "method", **facts)
    if method.trained:
        loss, negatives = method.loss, None
        if loss.negatives:
            drawn = (loss.negatives, loss.shared, loss.power, values["seed"])
            negatives = NegativeSampler(split.train, dataset.num_items, *drawn)
            loss.setup(torch.from_numpy(negatives.log_proposal).float())
        loss.count(torch.from_numpy(split.train.item_counts(dataset.num_items)))
        loader = TrainLoader(
            split.train,
            trainer["batch_size"],
            values["max_len"],
            values["seed"],
            negatives,
            prefixes=trainer["prefixes"] or not method.backbone.causal,
        )
        if not len(loader):
            raise UserError(f"no user of '{dataset.name}' has two training interactions: nothing to train on")
    method.setup(split.train)
    torch.manual_seed(values["seed"] + fabric.global_rank)
    method = fabric.to_device(method)
    return Experiment(config, fabric, dataset, split, noise, method, evaluator, loader, scorer=method)


def make_evaluator(config: DictConfig, dataset: Dataset, split: Split) -> Evaluator:
    """Return the evaluator that `eval` of a configuration describes; raises UserError if its lists are too long."""
    evaluator = Evaluator(
        **{key: OmegaConf.to_container(config.eval)[key] for key in ("cutoffs", "mask_history", "ties", "metrics")},
        num_items=dataset.num_items,
        max_len=config.max_len,
        counts=split.train.item_counts(dataset.num_items),
    )
    evaluator.refuse_long_lists(split.test)
    return evaluator


def make_fabric(trainer: dict, trained: bool) -> Fabric:
    """Return the launched devices; methods that only count need none but the processor.

    Raises UserError for an accelerator that is not there or unknown.
    """
    accelerator = trainer["accelerator"] if trained else "cpu"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            **{key: trainer[key] for key in ("devices", "num_nodes", "strategy", "precision")},
        )
    except (RuntimeError, ValueError) as error:
        named = f"trainer.accelerator={accelerator} trainer.devices={trainer['devices']} trainer.strategy={trainer['strategy']}"
        raise UserError(f"{named}: {str(error).splitlines()[0]}") from error
    fabric.launch()
    return fabric


def tune_on_validation(experiment: Experiment) -> str:
    """Tune an untrained method's free hyper-parameter on validation; returns a line for the log, or ""."""
    monitor = experiment.config.trainer.monitor
    return experiment.method.tune_on_validation(lambda: experiment.validate()[monitor])


def one_device(config: DictConfig) -> DictConfig:
    """Return the configuration for a single process."""
    alone = config.copy()
    alone.trainer.update(devices=1, num_nodes=1, strategy="auto")
    return alone


def open_checkpoints(experiment: Experiment, folder: Path, config: DictConfig | None = None) -> Checkpoints:
    """Return the checkpoints in `folder` of an experiment, or of one with another configuration and the same data."""
    return Checkpoints(folder, config_hash(without_fusion(config or experiment.config)), experiment.dataset.sha256)


def make_trainer(experiment: Experiment, folder: Path, record) -> Trainer:
    """Return the trainer of an experiment, which keeps its checkpoints in `folder`."""
    fabric, config = experiment.fabric, experiment.config
    values = OmegaConf.to_container(config.trainer, resolve=True)
    optimizer = make(values["optimizer"], "trainer.optimizer")
    if experiment.method.items.sparse:
        optimizer = partial(LazyAdam, **optimizer.keywords)
    settings = (
        *("schedule", "warmup_epochs", "plateau", "plateau_factor", "clip"),
        *("monitor", "max_epochs", "eval_every", "patience", "max_minutes", "checkpoint_minutes"),
    )
    return Trainer(
        fabric,
        experiment.method,
        experiment.loader,
        lambda: fabric.broadcast(experiment.validate()),  # the last bits of a mean may depend on the processor
        record,
        open_checkpoints(experiment, folder),
        Progress(values["progress"] if fabric.is_global_zero else False, values["monitor"]),
        optimizer,
        **{key: values[key] for key in settings},
    )
