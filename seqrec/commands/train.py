"""Run one experiment, or a sweep with -m."""

import logging
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqrec.cli import JobFailed, Parser, conf_folder, set_up_logging
from seqrec.commands import sweep
from seqrec.config import apply_variant, check, run_path
from seqrec.evaluation.metrics import METRICS
from seqrec.runs.directory import DONE, RunDir, remove_if_empty
from seqrec.runs.summary import results_table
from seqrec.tuning.choice import choices
from seqrec.tuning.study import TRIAL, is_trial, trial_path
from seqrec.tuning.trial import run_trial
from seqrec.utils.errors import UserError
from seqrec.utils.first_process import is_first

log = logging.getLogger("seqrec")
REFUSED = ".refused"  # stands for the path of a job that has none
INTERRUPTED = "interrupted; the same command, without force=true, goes on from the last checkpoint"


def path_of_job(config: DictConfig) -> str:
    """Return the path of a run or trial, which Hydra wants to know before the configuration is checked."""
    try:
        return trial_path(config) if is_trial(config) else run_path(config)
    except Exception:  # there is no end to what a wrong value makes of it, and the check names the value
        check(apply_variant(config))
        raise


def path_in_sweep(*, _root_: DictConfig) -> str:
    """Return the path of a run; in a sweep that of a job without one is refused later, by the job, so that the others go on."""
    try:
        return path_of_job(_root_)
    except Exception:
        if sweep.VARIABLE in os.environ:
            return REFUSED
        raise


OmegaConf.register_new_resolver("run_path", path_in_sweep, replace=True)
OmegaConf.register_new_resolver("names", ",".join, replace=True)
OmegaConf.register_new_resolver("metric_names", lambda: ", ".join(METRICS), replace=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the jobs that the arguments (those of the process by default) describe."""
    if arguments is not None:
        sys.argv[1:] = arguments  # where Hydra looks for them
    parser = get_args_parser()
    parser.error = partial(Parser.error, parser)  # Hydra's own prints its usage and exits
    given = parser.parse_args()
    modes = [mode for mode in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(given, mode)]
    if len(modes) > 1:
        parser.error(f"--{modes[0]} and --{modes[1].replace('_', '-')} do not go together")
    if given.resolve and not (given.cfg or given.help):
        parser.error("--resolve goes with --cfg")
    for word in sys.argv[1:]:
        if word.startswith("tune=") and "," in word:
            raise UserError(f"{word}: a study searches one method; start another one for the next method")
    entry = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(run_job)
    records = sweep.run(entry)
    sweep.refuse_failures(records)
    for chosen in choices(records, sys.argv[1:]):
        sys.argv[1:] = chosen.arguments
        records = sweep.run(entry)
        chosen.keep([record["directory"] for record in records])
        sweep.refuse_failures(records)


def run_job(config: DictConfig) -> float | None:
    """Run one job of Hydra's; returns the monitored validation metric, the objective of sweeps."""
    set_up_logging()
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        import_once(config, folder)
        return sweep.in_own_process(partial(job_of_sweep, config, folder), config)
    try:
        return job(config, folder)
    except Exception as error:
        raise JobFailed from error


def import_once(config: DictConfig, folder: Path) -> None:
    """Import torch for all jobs of this worker, unless this one needs none; what is wrong with it, it says itself."""
    if not ((folder / DONE).exists() or (folder / TRIAL).exists()):
        with suppress(Exception):
            check(apply_variant(config))
            import seqrec.experiment  # noqa: F401


def job_of_sweep(config: DictConfig, folder: Path) -> float | None:
    """Run one job of a sweep: a trial or an experiment. Raises UserError where it has no path."""
    if folder.name == REFUSED:
        remove_if_empty(folder)
        path_of_job(config)
    return run_trial(config, folder) if is_trial(config) else job(config, folder, multirun=True)


def job(config: DictConfig, folder: Path, multirun: bool = False) -> float | None:
    """Run the experiment that `config` describes in `folder`, unless it is complete there.

    Returns the monitored validation metric, None for a dry run. Raises UserError for a configuration that cannot work,
    and for a folder that holds something else.
    """
    config = apply_variant(config)
    check(config)
    run_dir = RunDir(folder)
    if not (config.force or config.dry_run):
        run_dir.refuse_another(config)
        if run_dir.complete:
            return reported(config, run_dir)

    from seqrec.build import refuse_impossible  # imports torch; everything above answers at once
    from seqrec.experiment import dry_run, run
    from seqrec.utils.processes import leave

    refuse_impossible(config, multirun, resumed=run_dir.resumable and not config.force)
    if config.dry_run:
        dry_run(config)
        remove_if_empty(run_dir.path)
        return None
    # of several processes that share a run, the first one writes
    value = run_locked(config, run_dir, multirun) if is_first() else run(config, run_dir)
    leave()
    return value


def run_locked(config: DictConfig, run_dir: RunDir, multirun: bool) -> float:
    """Run the experiment while no other process works in `run_dir`; returns the monitored validation metric."""
    from seqrec.experiment import run

    with run_dir.lock(patience=5 if multirun else 0):  # a killed sweep takes its jobs along, but not at once
        if config.force:
            run_dir.set_aside()
        run_dir.refuse_another(config)
        if run_dir.complete:  # another process was faster
            return reported(config, run_dir)
        with run_dir.logged():
            return run(config, run_dir)


def reported(config: DictConfig, run_dir: RunDir) -> float:
    """Log the figures of a complete run; returns the monitored validation metric. Raises UserError if its data have changed."""
    run_dir.refuse_changed_data(OmegaConf.to_container(config.dataset, resolve=True), config.data_dir)
    metrics = run_dir.metrics()
    log.info("complete already (force=true does it again)\n%s", results_table(metrics, run_dir.path))
    return metrics["valid"][config.trainer.monitor]
