"""One experiment from data to a complete run directory."""

import logging
import time
from contextlib import closing

import torch
from omegaconf import DictConfig, OmegaConf

from seqrec.build import Experiment, build, make_trainer, open_checkpoints, tune_on_validation
from seqrec.config import config_hash
from seqrec.evaluation.position_profile import position_profile
from seqrec.run.directory import RunDir
from seqrec.run.manifest import environment, parameter_count, peak_memory
from seqrec.run.summary import results_table
from seqrec.training.progress import validation_metrics
from seqrec.training.tensorboard import EventWriter
from seqrec.training.trainer import State
from seqrec.utils.errors import UserError

log = logging.getLogger("seqrec")


def run(config: DictConfig, run_dir: RunDir) -> float:
    """Train, evaluate once on the test set, fill the run directory; returns the monitored validation metric."""
    began = time.monotonic()
    experiment = build(config)
    software = environment(experiment.fabric.device)  # before training: sources may change while it runs
    if experiment.fabric.is_global_zero:
        run_dir.write_config(OmegaConf.to_yaml(config, resolve=True))
        describe(experiment)
    trained = experiment.method.trained
    state = train(experiment, run_dir) if trained else State(stopped=tune_on_validation(experiment) or "not trained")
    if not experiment.fabric.is_global_zero:
        return state.best
    metrics, test = evaluate(experiment, state, run_dir)
    manifest = {
        **software,
        **facts(experiment),
        **test,
        "epochs": len(state.history),
        "stopped": state.stopped,
        "train_seconds": round(sum(entry["train_seconds"] for entry in state.history), 2),
        "targets_per_second": rate(state.history),
        "wall_seconds": round(time.monotonic() - began + state.earlier, 2),
        "peak_memory_bytes": peak_memory(experiment.fabric.device),
    }
    size, device = config.trainer.batch_size, experiment.fabric.device
    if trained:
        profile = position_profile(experiment.method, experiment.split.train, config.max_len, size, device)
        run_dir.write_position_profile(profile)
    run_dir.finish(metrics, manifest)
    log.info("%s", results_table(metrics, run_dir.path))
    return metrics["valid"][config.trainer.monitor]


def train(experiment: Experiment, run_dir: RunDir) -> State:
    """Train the method, or resume from the last checkpoint, and leave it at its best epoch."""
    with closing(EventWriter(run_dir.path / "tensorboard")) as events:

        def record(history: list[dict]) -> None:
            if experiment.fabric.is_global_zero:
                run_dir.write_history(history)
                events.write(history)

        state = make_trainer(experiment, run_dir.path, record).fit()
    log.info("training ended: %s", state.stopped)
    experiment.fabric.barrier()  # the first process writes the checkpoint that all of them read
    best = open_checkpoints(experiment, run_dir.path).load("best.pt")
    if best["epoch"] != state.best_epoch:  # stopped between two files, and the repeated epoch gave another result
        raise UserError(
            f"best.pt is of epoch {best['epoch']}, the best one was {state.best_epoch}: start again with force=true"
        )
    experiment.method.load_state_dict(best["model"])
    return state


def evaluate(experiment: Experiment, state: State, run_dir: RunDir) -> tuple[dict, dict]:
    """Return metrics.json and facts about the test for the manifest; writes the test set's ranks.

    The validation metrics are those of the best epoch as they were measured in training.
    """
    evaluator, split, device = experiment.evaluator, experiment.split, experiment.fabric.device
    valid = validation_metrics(state.history[state.best_epoch - 1]) if state.history else experiment.validate()
    began = time.monotonic()
    ranks = evaluator.ranks(experiment.method, split.test, device, lists=True)
    seconds = time.monotonic() - began
    run_dir.write_ranks("ranks_test.npz", ranks, experiment.dataset.user_ids, experiment.dataset.item_ids)
    metrics = {"valid": valid, "test": evaluator.metrics(ranks), "best_epoch": state.best_epoch}
    test = {
        "test_questions": len(ranks.user),
        "test_targets_in_history": round(split.test.target_in_history().mean(), 6),
        "test_seconds": round(seconds, 3),
    }
    return metrics, test


def facts(experiment: Experiment) -> dict:
    """Return the data, protocol and device of the run, for the manifest."""
    config, dataset = experiment.config, experiment.dataset
    return {
        "config_hash": config_hash(config),
        "data_sha256": dataset.sha256,
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
    """Print the resolved configuration, the statistics of the data and the number of parameters."""
    experiment = build(config)
    log.info("%s", OmegaConf.to_yaml(config, resolve=True))
    log.info("data: %s", experiment.dataset.statistics())
    describe(experiment)
