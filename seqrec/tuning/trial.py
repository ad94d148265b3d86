"""One trial of a study: trained and validated, never tested."""

import json
import logging
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seqrec.config import apply_variant, check
from seqrec.runs.directory import RunDir
from seqrec.tuning.study import (
    COMPLETE,
    DIVERGED,
    PRUNED,
    RUNNING,
    STUDY,
    TRIAL,
    Search,
    ended_trials,
    read_trial,
    search_space,
    with_values,
)
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_json

log = logging.getLogger("seqrec")


class Pruned(Exception):
    """Ends the training of a trial that is worse than most others were."""


def run_trial(config: DictConfig, folder: Path) -> float:
    """Run the trial `tune.trial` in `folder`, from where it was, unless it has ended; returns its validation metric.

    Raises UserError for a method without training, for fusion, and for other data than the trials before had.
    """
    tune, number = config.tune, int(config.tune.trial)
    refuse(config, folder.parent)
    space, config = search_space(config), apply_variant(config)
    check(config)
    run_dir = RunDir(folder)
    with run_dir.lock(patience=5):
        describe_study(folder.parent, space, tune, config.trainer.monitor)
        found = read_trial(folder)
        if found.get("state", RUNNING) != RUNNING:
            log.info("trial %d: %s already", number, found["state"])
            return found["value"]
        earlier = [trial for trial in ended_trials(folder.parent) if trial["number"] < number]
        search = Search(earlier, number, config.seed, space, tune.startup, tune.prune_from)
        if not found:  # the first trial is the setting as it is
            values = search.values() if number else {key: OmegaConf.select(config, key) for key in space}
            found = {"number": number, "state": RUNNING, "values": values}
            write_json(folder / TRIAL, found)
        if number:
            config = with_values(config, space, found["values"])
        check(config)
        with run_dir.logged():
            log.info("trial %d: %s", number, ", ".join(f"{key}={value}" for key, value in found["values"].items()))
            found |= trained(config, run_dir, search, earlier)
            log.info("trial %d: %s, %s %.4f", number, found["state"], config.trainer.monitor, found["value"])
        write_json(folder / TRIAL, found)
        if found["state"] != COMPLETE or any(t["state"] == COMPLETE and t["value"] >= found["value"] for t in earlier):
            for name in ("best.pt", "last.pt"):  # only that of the best trial is trained on
                with suppress(FileNotFoundError):
                    (folder / name).unlink()
    return found["value"]


def refuse(config: DictConfig, study: Path) -> None:
    """Raise UserError for a configuration whose trials would not be what they seem."""
    from seqrec.utils.instantiate import locate

    if not locate(config.method["_target_"]).trained:
        raise UserError(f"tune with method={config.method.name}: it is not trained; sweep over its keys instead")
    if config.fusion.name != "none":
        raise UserError(f"tune with fusion={config.fusion.name}: tune without, then fuse the best runs")
    if config.force or config.dry_run:
        raise UserError(
            f"tune with force=true or dry_run=true: to search again, remove {study}; to see a trial, leave tune out"
        )


def describe_study(folder: Path, space: dict, tune: DictConfig, monitor: str) -> None:
    """Write what is searched into study.json, which keeps what was chosen before."""
    path = folder / STUDY
    before = json.loads(path.read_text()) if path.exists() else {}
    method = HydraConfig.get().runtime.choices["method"]
    asked = {"method": method, "monitor": monitor, "trials": tune.trials, "seeds": list(tune.seeds), "space": space}
    now = before | asked
    if now != before:
        write_json(path, now)


def trained(config: DictConfig, run_dir: RunDir, search: Search, earlier: list[dict]) -> dict[str, object]:
    """Train until the end, or until the trial is hopeless; returns how it ended.

    Raises UserError if the earlier trials had other data.
    """
    from seqrec.build import build, refuse_impossible
    from seqrec.experiment import begin, describe, train
    from seqrec.training.readings import Diverged

    refuse_impossible(config, multirun=True)
    run_dir.refuse_another(config)
    experiment = build(config)
    sha256, name = experiment.dataset.sha256, f"valid/{config.trainer.monitor}"
    if any(trial["data_sha256"] != sha256 for trial in earlier):
        raise UserError(
            f"{run_dir.path.parent}: the trials before had other data; remove it, or give the data that they had"
        )
    describe(experiment)
    begin(experiment, run_dir)
    seen: list[dict] = []

    def watch(history: list[dict]) -> None:
        new, seen[:] = history[len(seen) :], history
        for entry in new:
            if name in entry and search.hopeless(entry["epoch"], entry[name]):
                raise Pruned

    state, why = COMPLETE, ""
    try:
        value = train(experiment, run_dir, watch).best
    except Pruned:
        state, value = PRUNED, max(entry[name] for entry in seen if name in entry)
    except Diverged as error:
        state, value, why = DIVERGED, 0.0, str(error)
    curve = {entry["epoch"]: entry[name] for entry in seen if name in entry}
    return {"state": state, "value": value, "epochs": len(seen), "curve": curve, "data_sha256": sha256, "why": why}
