"""From run directories back to objects: a finished run, and the runs that a fusion takes."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from torch import nn

from seqrec.build.objects import Experiment, build, one_device, open_checkpoints, tune_on_validation
from seqrec.config import config_hash, with_younger_keys, without_fusion
from seqrec.runs.directory import RunDir
from seqrec.utils.checkpoint import Checkpoints
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import make

if TYPE_CHECKING:
    from seqrec.fusion.fusion import Fusion  # brings scipy, which few runs need


def load(folder: Path, complete: bool = False, **overrides) -> Experiment:
    """Build the experiment of a run directory again, at its best epoch, on one device.

    `overrides` replace top-level keys like data_dir. Raises UserError for other data than the run had, and where it has
    to be `complete` for a run that is not: what is left beside it would be of weights that it does not keep.
    """
    if not (folder / "config.yaml").exists():
        advice = "the pattern matches nothing" if set(folder.name) & set("*?[") else "there is no config.yaml in it"
        levels = ("*/" * level + "DONE" for level in range(1, 5))  # a dataset's folder is three above its runs
        below = next(chain.from_iterable(map(folder.glob, levels)), None)
        raise UserError(f"{folder} is no run directory: {advice}" + (f"; one is {below.parent}" if below else ""))
    run_dir = RunDir(folder)
    if complete and not run_dir.complete:
        raise UserError(f"{folder}: the run is not complete; the same command again completes it")
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
        load_best(experiment, run_dir)
    else:
        tune_on_validation(experiment)
    if "_target_" in config.fusion:
        if not run_dir.complete:
            raise UserError(f"{folder}: its fusion is not fitted yet; run the same command again")
        fusion, models = make_fusion(experiment)
        weights = run_dir.metrics()["fusion"]["weights"]
        experiment.scorer = fusion.fused(models, weights, experiment.evaluator.max_len).to(experiment.fabric.device)
    return experiment


def load_best(experiment: Experiment, run_dir: RunDir, config: DictConfig | None = None) -> int:
    """Give the method the best weights of a run with the same data; returns their epoch.

    `config` is that of the run where it is not the experiment's. Raises UserError for weights that are missing, or of
    another epoch than the run's best.
    """
    epoch = open_checkpoints(experiment, run_dir.path, config).load_best(experiment.method)
    if epoch is None:
        raise UserError(f"{run_dir.path} has no best.pt: the run has not finished an epoch, or the file was removed")
    if run_dir.complete and epoch != (best := run_dir.metrics()["best_epoch"]):
        raise UserError(
            f"{run_dir.path / 'best.pt'} is of epoch {epoch}, the best one was {best}; put the run's own back"
        )
    return epoch


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

    Raises UserError for a run of `fusion.runs` with other data, split, noise or a larger max_len, and for a fused one:
    its weights are fitted on the validation users that rank the halves here.
    """
    from seqrec.fusion.fused import Newest  # brings scipy, which few runs need

    fusion = make(OmegaConf.to_container(experiment.config.fusion, resolve=True), "fusion")
    fusion.setup(experiment.split.train, experiment.dataset.num_items)
    models = [experiment.method] if experiment.method.trained else []
    for number, folder in enumerate(fusion.runs):
        if OmegaConf.select(RunDir(Path(folder)).config(), "fusion._target_"):
            raise UserError(f"fusion.runs[{number}]={folder}: it is fused itself; name its run without fusion")
        other = load(Path(folder), data_dir=experiment.config.data_dir)
        for what, same in (
            ("data", other.dataset.sha256 == experiment.dataset.sha256),
            ("split, eval.valid_users or training noise", other.split.same(experiment.split)),
        ):
            if not same:
                raise UserError(f"fusion.runs[{number}]={folder}: it has another {what} than this run")
        if (longest := other.evaluator.max_len) > experiment.evaluator.max_len:
            raise UserError(f"fusion.runs[{number}]={folder}: it sees more of a history; set max_len={longest}")
        models.append(Newest(other.scorer, longest))
    return fusion, models
