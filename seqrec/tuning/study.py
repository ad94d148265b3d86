"""A study is a folder of trials, each a folder with a trial.json; what the next trial tries follows from these files alone."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from seqrec.config import digest, run_path
from seqrec.runs.directory import STUDY_FOLDER
from seqrec.utils.errors import UserError

if TYPE_CHECKING:
    import optuna

TRIAL, STUDY = "trial.json", "study.json"
RUNNING, COMPLETE, PRUNED, DIVERGED = "running", "complete", "pruned", "diverged"


def is_trial(config: DictConfig) -> bool:
    """Return whether a configuration is that of a trial: trained and validated, but not tested."""
    return "tune" in config and config.tune.trial is not None


def trial_path(config: DictConfig) -> str:
    """Return <folder of the runs>/study-<hash>/trial-<k>; the hash covers the configuration and what is searched.

    Raises UserError, naming the key, for a value of `tune` that makes no sense.
    """
    _check(config.tune)
    tune = OmegaConf.to_container(config.tune, resolve=True)
    model, _, run = run_path(config).rpartition("/")
    searched = [
        run,
        tune["backbones"].get(config.backbone.name),
        *(tune[key] for key in ("space", "startup", "prune_from")),
    ]
    return f"{model}/{STUDY_FOLDER}{digest(searched)}/trial-{tune['trial']:03d}"


def _check(tune: DictConfig) -> None:
    for key in ("trials", "startup", "prune_from"):
        if not (type(tune[key]) is int and tune[key] > 0):
            raise UserError(f"tune.{key}={tune[key]}: must be a whole number above 0")
    if not (OmegaConf.is_list(tune.seeds) and tune.seeds and all(type(seed) is int for seed in tune.seeds)):
        raise UserError(f"tune.seeds={tune.seeds}: must be a list of whole numbers, like [1,2,3]")
    if not (tune.trial is None or (type(tune.trial) is int and tune.trial >= 0)):
        raise UserError(f"tune.trial={tune.trial}: must be null or a whole number from 0")


def read_trial(folder: Path) -> dict:
    """Return trial.json of a trial's folder, {} where there is none; raises UserError if it is damaged."""
    path = folder / TRIAL
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove {folder}, and the trial is done again") from None


def ended_trials(study: Path) -> list[dict]:
    """Return the trials of a study that have ended, by number."""
    trials = [read_trial(path.parent) for path in sorted(study.glob(f"trial-*/{TRIAL}"))]
    return [trial for trial in trials if trial["state"] != RUNNING]


def search_space(config: DictConfig) -> dict[str, dict]:
    """Return what is searched: the keys of every method, of the method and of the backbone, with their ranges.

    Raises UserError for a backbone without ranges, a range that makes no sense, and a key that the configuration does
    not have, or that its variant sets.
    """
    tune = OmegaConf.to_container(config.tune, resolve=True)
    if config.backbone.name not in tune["backbones"]:
        raise UserError(f"tune with backbone={config.backbone.name}: tune.backbones has {', '.join(tune['backbones'])}")
    space = tune["space"] | tune["backbones"][config.backbone.name]
    of_variant = (config.get("variants") or {}).get(config.variant) or {}
    for name, given in space.items():
        _distribution(name, given)
        for key in (name, *given.get("also", [])):
            if OmegaConf.select(config, key, default=_distribution) is _distribution:  # null is a value
                raise UserError(
                    f"tune.space: there is no {key} with method={config.method.name} backbone={config.backbone.name}"
                )
            for other in of_variant:
                if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                    raise UserError(f"tune with variant={config.variant}: it sets {other}, and {key} is searched")
    return space


def with_values(config: DictConfig, space: dict[str, dict], values: dict[str, object]) -> DictConfig:
    """Return the configuration with the values of a trial; a key in `also` of a range takes the same value."""
    changed = config.copy()
    for key, value in flat(space, values).items():
        OmegaConf.update(changed, key, value, merge=False)
    return changed


def flat(space: dict[str, dict], values: dict[str, object]) -> dict[str, object]:
    """Return the values of a trial for all keys that it sets."""
    return {other: value for key, value in values.items() for other in (key, *space[key].get("also", []))}


class Search:
    """Optuna's view of the trials before this one; a pure function of them, of the seed and of the number."""

    def __init__(
        self, earlier: list[dict], number: int, seed: int, space: dict[str, dict], startup: int, prune_from: int
    ):
        """Raises UserError if optuna is missing."""
        optuna = _optuna()
        self.space = space
        distributions = {key: _distribution(key, given) for key, given in space.items()}
        self.study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(n_startup_trials=startup, seed=int(digest([seed, number]), 16)),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=prune_from),
        )
        states = {COMPLETE: "COMPLETE", PRUNED: "PRUNED", DIVERGED: "FAIL"}
        for trial in earlier:
            with suppress(ValueError):  # a first trial whose setting is outside the ranges says nothing about them
                self.study.add_trial(
                    optuna.trial.create_trial(
                        state=optuna.trial.TrialState[states[trial["state"]]],
                        value=trial["value"] if trial["state"] == COMPLETE else None,
                        params=trial["values"],
                        distributions=distributions,
                        intermediate_values={int(epoch): value for epoch, value in trial["curve"].items()},
                    )
                )
        self.trial = self.study.ask(distributions)

    def values(self) -> dict[str, object]:
        """Return what this trial tries, numbers with three digits."""
        found = {}
        for key, value in self.trial.params.items():
            given = self.space[key]
            if isinstance(value, float) and "low" in given:
                value = min(max(float(f"{value:.3g}"), given["low"]), given["high"])
            found[key] = value
        return found

    def hopeless(self, epoch: int, value: float) -> bool:
        """Report the validation metric after an epoch; returns whether the best so far is below the median of earlier trials there."""
        self.trial.report(value, epoch)
        return self.trial.should_prune()


def _distribution(key: str, given: object) -> "optuna.distributions.BaseDistribution":
    kinds = _optuna().distributions
    try:
        if "choices" in given:
            return kinds.CategoricalDistribution(given["choices"])
        low, high, step = given["low"], given["high"], given.get("step")
        whole = all(type(value) is int for value in (low, high, 1 if step is None else step))
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        return kind(low, high, log=given.get("log", False), step=1 if whole and step is None else step)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"tune.space: {key}={given}: must be {{low: .., high: ..}} with step or log: true, or {{choices: [..]}} ({error})"
        ) from None


def _optuna():
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError("tuning needs optuna: pip install 'seqrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
