"""From the configuration to objects; no other module knows both."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seqrec.config import config_hash, with_younger_keys, without_fusion
from seqrec.data.dataset import Dataset
from seqrec.data.loader import TrainLoader
from seqrec.data.negatives import NegativeSampler
from seqrec.data.split import Split
from seqrec.evaluation.evaluator import Evaluator
from seqrec.loggers.base import make_loggers
from seqrec.losses import NextItemLoss
from seqrec.methods.base import Method, ModelSpec, Untrained
from seqrec.methods.counts import Counts
from seqrec.runs.directory import RunDir
from seqrec.training.lazy_adam import LazyAdam, has_sparse_rows, why_dense
from seqrec.training.progress import Progress
from seqrec.training.trainer import Trainer
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import locate, make

if TYPE_CHECKING:
    from seqrec.fusion.fusion import Fusion  # brings scipy, which few runs need


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
    reason = method.refuse(loss, backbone)
    if reason:
        raise UserError(
            f"method={config.method.name} with backbone={config.backbone.name} loss={config.loss.name}: {reason}"
        )
    others = {} if resumed else {f"method.{key}": config.method[key] for key in method.finished_runs}
    runs = config.fusion.get("runs", OmegaConf.create([]))
    if not OmegaConf.is_list(runs):
        raise UserError(f"fusion.runs={runs}: must be a list of run directories, like [DIR,DIR]")
    others |= {f"fusion.runs[{number}]": folder for number, folder in enumerate(runs)}
    for key, folder in others.items():
        if folder is not None and not RunDir(Path(folder)).complete:
            raise UserError(f"{key}={folder}: no finished run there; give the directory of a complete run")
    make_loggers(OmegaConf.to_container(config.logger, resolve=True))
    optimizer = make(OmegaConf.to_container(config.trainer.optimizer, resolve=True), "trainer.optimizer")
    reason = config.trainer.sparse is True and loss is not None and why_dense(loss, optimizer)
    if reason:
        raise UserError(f"trainer.sparse=true: {reason}")
    if multirun and config.trainer.devices != 1:
        raise UserError("trainer.devices > 1 does not work inside a multirun (-m): its processes outlive a job")


def refuse_fusion(config: DictConfig, method: type) -> None:
    """Raise UserError if the method cannot be fused, or needs fusion."""
    fused = "_target_" in config.fusion
    if fused and not method.trained and not issubclass(method, Counts):
        raise UserError(
            f"fusion={config.fusion.name} with method={config.method.name}: fuse a trained method, or take method=counts"
        )
    if issubclass(method, Counts) and not fused:
        raise UserError("method=counts with fusion=none: it has no model; leave fusion out, or take fusion=runs")


def build(config: DictConfig) -> Experiment:
    """Load the data and build the method; raises UserError for what the user can fix."""
    values = OmegaConf.to_container(config, resolve=True)
    trainer = values["trainer"]
    if trainer["threads"] is not None:
        torch.set_num_threads(trainer["threads"])
    fabric = make_fabric(trainer, locate(values["method"]["_target_"]).trained)
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
        negatives = make_sampler(method.loss, split, dataset.num_items, values["seed"])
        if negatives is not None:
            method.loss.setup(torch.from_numpy(negatives.log_proposal).float())
        method.loss.count(torch.from_numpy(split.train.item_counts(dataset.num_items)))
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
    """Return the evaluator that `eval` of a configuration describes."""
    return Evaluator(
        **{key: OmegaConf.to_container(config.eval)[key] for key in ("cutoffs", "mask_history", "ties", "metrics")},
        num_items=dataset.num_items,
        max_len=config.max_len,
        counts=split.train.item_counts(dataset.num_items),
    )


def make_fabric(trainer: dict, trained: bool) -> Fabric:
    """Return the launched devices; methods that only count need none but the processor.

    Raises UserError for an accelerator that is not there or unknown.
    """
    accelerator = trainer["accelerator"] if trained else "cpu"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            **{key: trainer[key] for key in ("devices", "strategy", "precision")},
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


def load(folder: Path, **overrides) -> Experiment:
    """Build the experiment of a run directory again, at its best epoch, on one device.

    `overrides` replace top-level keys like data_dir. Raises UserError for other data than the run had.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is no run directory: there is no config.yaml in it")
    run_dir = RunDir(folder)
    config = with_younger_keys(run_dir.config())
    hash_now = config_hash(config)
    config.update({key: value for key, value in overrides.items() if value is not None})
    config.update({"cache_dir": None})  # prepared copies go where the user of today keeps them
    if "url" in config.dataset:
        config.dataset.url = None
    source_of_run(run_dir, OmegaConf.to_container(config), config.data_dir)
    if (folder / "manifest.json").exists() and run_dir.manifest()["config_hash"] != hash_now:
        raise UserError(f"{folder / 'config.yaml'} was changed after the run; put it back, or run it as one of its own")
    experiment = replace(build(one_device(config)), config=config)
    if run_dir.complete:
        run_dir.refuse_other_data(experiment.dataset.sha256)
    if experiment.method.trained:
        epoch = open_checkpoints(experiment, folder).load_best(experiment.method)
        if epoch is None:
            raise UserError(f"{folder} has no best.pt: the run has not finished an epoch, or the file was removed")
        best = run_dir.metrics()["best_epoch"] if run_dir.complete else epoch
        if epoch != best:
            raise UserError(
                f"{folder / 'best.pt'} is of epoch {epoch}, the best one was {best}; put the run's own back"
            )
    else:
        tune_on_validation(experiment)
    if "_target_" in config.fusion:
        if not run_dir.complete:
            raise UserError(f"{folder}: its fusion is not fitted yet; run the same command again")
        fusion, models = make_fusion(experiment)
        weights = run_dir.metrics()["fusion"]["weights"]
        experiment.scorer = fusion.fused(models, weights, experiment.evaluator.max_len).to(experiment.fabric.device)
    return experiment


def source_of_run(run_dir: RunDir, values: dict, data_dir: str):
    """Return the source of a run's data, which downloads nothing.

    Raises UserError if a file that it names is not the one of the run. The file is not parsed before that is known, for a
    message could show a line of any file that the configuration of a stranger's run names.
    """
    from seqrec.data.source import FileDataset  # brings pandas, which synthetic data do without

    source = make(
        {key: value for key, value in values["dataset"].items() if key != "url"}, name=values["dataset"]["name"]
    )
    if not isinstance(source, FileDataset):
        return source
    sha256 = source.file_sha256(data_dir)
    if run_dir.complete:
        run_dir.refuse_other_data(sha256)
    else:
        best = Checkpoints(run_dir.path, config_hash(without_fusion(OmegaConf.create(values))), sha256).load("best.pt")
        if best is None or "data_sha256" not in best:
            raise UserError(
                f"{run_dir.path}: neither complete nor has it a best.pt that names its data; finish the run"
            )
    return source


def make_fusion(experiment: Experiment) -> "tuple[Fusion, list[nn.Module]]":
    """Return the fusion of an experiment with its training set counted, and the models whose scores it fuses.

    Raises UserError for a run of `fusion.runs` with other data, split, noise or max_len.
    """
    fusion = make(OmegaConf.to_container(experiment.config.fusion, resolve=True), "fusion")
    fusion.setup(experiment.split.train, experiment.dataset.num_items)
    models = [experiment.method] if experiment.method.trained else []
    for number, folder in enumerate(fusion.runs):
        if OmegaConf.select(RunDir(Path(folder)).config(), "fusion.runs"):  # two that name each other would never end
            raise UserError(f"fusion.runs[{number}]={folder}: it fuses runs itself; name those runs")
        other = load(Path(folder), data_dir=experiment.config.data_dir)
        for what, same in (
            ("data", other.dataset.sha256 == experiment.dataset.sha256),
            ("split, eval.valid_users or training noise", other.split.same(experiment.split)),
            ("max_len", other.evaluator.max_len == experiment.evaluator.max_len),
        ):
            if not same:
                raise UserError(f"fusion.runs[{number}]={folder}: it has another {what} than this run")
        models.append(other.scorer)
    return fusion, models


def one_device(config: DictConfig) -> DictConfig:
    """Return the configuration for a single process."""
    alone = config.copy()
    alone.trainer.update(devices=1, strategy="auto")
    return alone


def make_sampler(loss: NextItemLoss, split: Split, num_items: int, seed: int) -> NegativeSampler | None:
    """Return the sampler of the loss's negatives; None for a loss without any."""
    if not loss.negatives:
        return None
    return NegativeSampler(split.train, num_items, loss.negatives, loss.shared, loss.power, seed)


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
        Progress(values["progress"], values["monitor"]),
        optimizer,
        **{key: values[key] for key in settings},
    )
