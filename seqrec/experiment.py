"""One experiment from data to a complete run directory."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from seqrec.build import (
    Experiment,
    build,
    load_best,
    make_fusion,
    make_trainer,
    one_device,
    open_checkpoints,
    tune_on_validation,
)
from seqrec.config import config_hash, flatten, run_path, without_fusion
from seqrec.evaluation.position_profile import position_profile
from seqrec.loggers.base import LoggedRun, Loggers, make_loggers
from seqrec.runs.directory import POSITION_PROFILE, RunDir
from seqrec.runs.manifest import environment, parameter_count, peak_memory
from seqrec.runs.summary import results_table
from seqrec.training.estimate import estimate
from seqrec.training.progress import validation_metrics
from seqrec.training.trainer import State
from seqrec.utils.errors import UserError
from seqrec.utils.first_process import is_first
from seqrec.utils.instantiate import locate
from seqrec.utils.keyed_random import user_keys

log = logging.getLogger("seqrec")
CHANGES_BITS = ("git_commit", "versions", "machine", "device", "threads")  # of the manifest
TRAINING_FACTS = ("epochs", "stopped", "train_seconds", "targets_per_second")  # of the manifest


def run(config: DictConfig, run_dir: RunDir) -> float:
    """Run the experiment and fill the run directory; returns the monitored validation metric."""
    return run_fused(config, run_dir) if "_target_" in config.fusion else run_alone(config, run_dir)


def run_alone(config: DictConfig, run_dir: RunDir) -> float:
    """Train and evaluate once on the test set; returns the monitored validation metric."""
    began = time.monotonic()
    experiment = build(config)
    with closing(open_loggers(experiment, run_dir)) as loggers:
        return run_logged(experiment, run_dir, loggers, began)


def open_loggers(experiment: Experiment, run_dir: RunDir) -> Loggers:
    """Return the loggers that the configuration wants; of several processes only the first one logs."""
    config = OmegaConf.to_container(experiment.config, resolve=True)
    wanted = make_loggers(config.pop("logger")) if experiment.fabric.is_global_zero else {}
    name = run_path(experiment.config)
    return Loggers(wanted, LoggedRun(run_dir.path, Path(config["output_dir"]), name, flatten(config)))


def run_logged(experiment: Experiment, run_dir: RunDir, loggers: Loggers, began: float) -> float:
    """Train and evaluate a built experiment that `began` at a time of the clock."""
    config = experiment.config
    first, trained, manifest, state = experiment.fabric.is_global_zero, experiment.method.trained, {}, State()
    if first:
        describe(experiment)
        manifest = begin(experiment, run_dir)
    reused = trained and not config.force and not run_dir.resumable
    twin = run_dir.twin(config, experiment.dataset.sha256) if reused else None
    if twin is None:
        state = (
            train(experiment, run_dir, loggers.write)
            if trained
            else State(stopped=tune_on_validation(experiment) or "not trained")
        )
    metrics, found = evaluate(experiment, state, run_dir) if twin is None else evaluate_twin(experiment, twin, run_dir)
    if not first:
        return metrics["valid"][config.trainer.monitor]
    if trained:
        size, device = config.trainer.batch_size, experiment.fabric.device
        profile = position_profile(experiment.method, experiment.split.train, config.max_len, size, device)
        run_dir.write_position_profile(profile)
    manifest |= found | {"wall_seconds": round(time.monotonic() - began + state.earlier, 2)}
    manifest["peak_memory_bytes"] = peak_memory(experiment.fabric.device)
    run_dir.finish(metrics, manifest)
    loggers.finish(metrics)
    log.info("%s", results_table(metrics, run_dir.path))
    return metrics["valid"][config.trainer.monitor]


def run_fused(config: DictConfig, run_dir: RunDir) -> float:
    """Fuse the run without fusion, which is completed first if need be, with counts; returns the validation metric.

    The validation metrics are cross-fitted over two halves of the users. The trained model stays as it is.
    """
    began = time.monotonic()
    alone = without_fusion(config)
    trained, base = locate(config.method["_target_"]).trained, RunDir(Path(config.output_dir) / run_path(alone))
    if trained and not base.complete:
        log.info("first the run without fusion, in %s", base.path)
        complete(alone, base)
    if not is_first():  # the first process fuses, and may still be writing the base
        return math.nan

    experiment = build(one_device(config))
    experiment.config, device = config, experiment.fabric.device  # the hash is that of all processes
    describe(experiment)
    start = begin(experiment, run_dir)
    metrics, manifest = {"best_epoch": 0}, {"epochs": 0, "stopped": "not trained", "train_seconds": 0.0}
    if trained:
        base.refuse_other_data(experiment.dataset.sha256)
        load_best(experiment, base)
        run_dir.take(base, "best.pt", "history.jsonl", POSITION_PROFILE)
        before, manifest = base.metrics(), {key: base.manifest()[key] for key in TRAINING_FACTS}
        metrics = {"best_epoch": before["best_epoch"], "unfused": {key: before[key] for key in ("valid", "test")}}
    fitted = time.monotonic()
    fusion, models = make_fusion(experiment)
    keys, evaluator = user_keys(experiment.dataset.user_ids), experiment.evaluator
    weights, valid = fusion.fit(models, experiment.split.valid, keys, evaluator, device)
    manifest["fit_seconds"] = round(time.monotonic() - fitted, 2)
    log.info("fused, %s", fusion.described(weights))
    experiment.scorer = fusion.fused(models, weights, evaluator.max_len).to(device)
    test, facts_of_test = rank_test(experiment, run_dir)
    metrics = {"valid": evaluator.metrics(valid), "test": test, **metrics, "fusion": {"weights": weights}}
    wall = {"wall_seconds": round(time.monotonic() - began, 2), "peak_memory_bytes": peak_memory(device)}
    run_dir.finish(metrics, {**start, **facts_of_test, **manifest, **wall})
    with closing(open_loggers(experiment, run_dir)) as loggers:
        loggers.finish(metrics)
    log.info("%s", results_table(metrics, run_dir.path))
    return metrics["valid"][config.trainer.monitor]


def complete(config: DictConfig, run_dir: RunDir) -> None:
    """Run the experiment, or go on with it, unless it is complete; a single process waits for another one that is at work there."""
    if not is_first():
        run_alone(config, run_dir)
        return
    # of several processes the others could not know that the first one waits
    with run_dir.lock(patience=None if (config.trainer.devices, config.trainer.num_nodes) == (1, 1) else 0):
        run_dir.refuse_another(config)
        if not run_dir.complete:  # another process may have been faster
            with run_dir.logged():
                run_alone(config, run_dir)


def begin(experiment: Experiment, run_dir: RunDir) -> dict:
    """Write configuration and manifest of a run that starts or is resumed; returns the manifest.

    Of a resumed run it lists the code, settings and machines before, with a warning, for they may change the result.
    """
    # now, since sources may change while the run goes on
    manifest = {**environment(experiment.fabric.device), **facts(experiment)}
    if run_dir.resumable and (run_dir.path / "manifest.json").exists():
        before = run_dir.manifest()
        was, now = ({key: found.get(key) for key in CHANGES_BITS} for found in (before, manifest))
        earlier = before.get("resumed_from", [])
        manifest["resumed_from"] = earlier if was == now else [*earlier, was]
        if was != now:
            old, new = flatten(was), flatten(now)
            changed = "; ".join(f"{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key])
            manifest["warnings"].append(f"resumed under other conditions, so the result may be another one: {changed}")
            log.warning("warning: %s", manifest["warnings"][-1])
    run_dir.begin(OmegaConf.to_yaml(experiment.config, resolve=True), manifest)
    return manifest


def train(experiment: Experiment, run_dir: RunDir, watch: Callable[[list[dict]], None]) -> State:
    """Train the method, or resume from the last checkpoint, and leave it at its best epoch.

    `watch` sees the history after every epoch, and all of it when training goes on; what it raises ends training.
    """

    def record(history: list[dict]) -> None:
        if experiment.fabric.is_global_zero:
            run_dir.write_history(history)
            watch(history)

    state = make_trainer(experiment, run_dir.path, record).fit()
    log.info("training ended: %s", state.stopped)
    experiment.fabric.barrier()  # the first process writes the checkpoint that all of them read
    epoch = open_checkpoints(experiment, run_dir.path).load_best(experiment.method)
    if epoch != state.best_epoch:  # earlier versions could end so
        raise UserError(
            f"best.pt is of epoch {epoch}, the best one was {state.best_epoch}: start again with force=true"
        )
    return state


def evaluate(experiment: Experiment, state: State, run_dir: RunDir) -> tuple[dict, dict]:
    """Return metrics.json and facts about training and test for the manifest; the first process writes the test set's ranks.

    The validation metrics are those of the best epoch as they were measured in training.
    """
    valid = validation_metrics(state.history[state.best_epoch - 1]) if state.history else experiment.validate()
    metrics, found = rank_test(experiment, run_dir)
    found |= {
        "epochs": len(state.history),
        "stopped": state.stopped,
        "train_seconds": round(sum(entry["train_seconds"] for entry in state.history), 2),
        "targets_per_second": rate(state.history),
    }
    return {"valid": valid, "test": metrics, "best_epoch": state.best_epoch}, found


def evaluate_twin(experiment: Experiment, twin: RunDir, run_dir: RunDir) -> tuple[dict, dict]:
    """Return and write what `evaluate` does, with the best weights of a run with the same training."""
    log.info("trained already, in %s", twin.path)
    epoch = load_best(experiment, twin, twin.config())
    if experiment.fabric.is_global_zero:
        best = {"model": experiment.method.state_dict(), "epoch": epoch}
        open_checkpoints(experiment, run_dir.path).save("best.pt", best)
        run_dir.take(twin, "history.jsonl")
    valid = experiment.validate()
    metrics, found = rank_test(experiment, run_dir)
    found |= {key: twin.manifest()[key] for key in TRAINING_FACTS} | {"trained_in": twin.path.name}
    return {"valid": valid, "test": metrics, "best_epoch": epoch}, found


def rank_test(experiment: Experiment, run_dir: RunDir) -> tuple[dict[str, float], dict]:
    """Return the test metrics, and facts for the manifest; the first process writes the test set's ranks."""
    evaluator, split, fabric = experiment.evaluator, experiment.split, experiment.fabric
    began = time.monotonic()
    ranks = evaluator.ranks(experiment.scorer, split.test, fabric.device, lists=True, fabric=fabric)
    seconds = time.monotonic() - began
    if fabric.is_global_zero:
        run_dir.write_ranks(ranks, experiment.dataset.user_ids, experiment.dataset.item_ids)
    test = {
        "test_questions": len(ranks.user),
        "test_targets_in_history": round(split.test.target_in_history().mean(), 6),
        "test_seconds": round(seconds, 3),
    }
    return evaluator.metrics(ranks), test


def facts(experiment: Experiment) -> dict:
    """Return the data, protocol and device of the run, for the manifest."""
    config, dataset = experiment.config, experiment.dataset
    return {
        "config_hash": config_hash(config),
        "data_sha256": dataset.sha256,
        **({"data_stamp": dataset.stamp} if dataset.stamp else {}),
        "data": dataset.statistics(),
        **({"noise": experiment.noise} if experiment.noise else {}),
        "warnings": list(dataset.warnings),
        "protocol": {
            "split": config.split.name,
            "loss": config.loss.name,
            "noise": OmegaConf.to_container(config.noise, resolve=True),
            "prefixes": experiment.loader is not None and experiment.loader.prefixes,
            "mask_history": config.eval.mask_history,
            "ties": config.eval.ties,
            "cutoffs": list(config.eval.cutoffs),
            "valid_users": len(experiment.split.valid.user),
        },
        "parameters": parameter_count(experiment.method),
        "device": str(experiment.fabric.device),
        "threads": torch.get_num_threads(),
    }


def describe(experiment: Experiment) -> None:
    """Log data, noise and model in a few lines."""
    config, data = experiment.config, experiment.dataset.statistics()
    for warning in experiment.dataset.warnings:
        log.warning("warning: %s", warning)
    log.info(
        "%s: %s users, %s items, %s interactions, mean length %.2f",
        *(config.dataset.name, f"{data['users']:,}", f"{data['items']:,}", f"{data['interactions']:,}"),
        data["mean_length"],
    )
    if experiment.noise:
        hits = ", ".join(f"{name} {count:,}" for name, count in experiment.noise["realised"].items())
        log.info("training noise at ratio %s: %s items", config.noise.ratio, hits)
    log.info(
        "%s on %s, loss %s, %s parameters, %s",
        *(config.method.name, config.backbone.name, config.loss.name, f"{parameter_count(experiment.method):,}"),
        experiment.fabric.device,
    )


def rate(history: list[dict]) -> int | None:
    """Return the mean targets per second over all epochs."""
    return round(sum(entry["targets_per_second"] for entry in history) / len(history)) if history else None


def dry_run(config: DictConfig) -> None:
    """Print the resolved configuration, the statistics of the data, the number of parameters, and what the run will take."""
    experiment = build(config)
    log.info("%s", OmegaConf.to_yaml(config, resolve=True))
    log.info("data: %s", experiment.dataset.statistics())
    describe(experiment)
    trainer = make_trainer(experiment, Path(), lambda _: None) if experiment.method.trained else None
    data, split = experiment.dataset.nbytes, experiment.split
    for line in estimate(
        trainer, experiment.scorer, experiment.evaluator, split.valid, split.test, data, experiment.fabric.device
    ):
        log.info("%s", line)
