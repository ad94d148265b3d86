"""A short command that gives a configuration: what rows of committed results are found by."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from seqrec.config import hashed_values, run_path
from seqrec.report.collect import flatten
from seqrec.utils.errors import UserError

SHOWN_FIRST = ("dataset", "split", "noise", "backbone", "loss", "method", "eval")
CHOSEN_FIRST = ("method", "loss", *SHOWN_FIRST)  # a method chooses other groups with it, a loss the trainer's plateau
Compose = Callable[..., DictConfig]  # from overrides


def command_of(config: DictConfig, compose: Compose) -> str:
    """Return the arguments of train.py, without seed, that give this configuration today; "" is the default.

    A ratio of 0 is no noise, any other is always there. A run directory, which has its own seed, is named as it is called
    in the folder outputs/. Raises UserError for a key that only the run or only today's configuration has, and for a value that
    cannot stand in a command.
    """
    choices, keys = {}, {}
    wanted = hashed_values(_denoised(config))
    for group in dict.fromkeys(CHOSEN_FIRST):
        found = hashed_values(compose(*choices.values(), f"seed={config.seed}"))
        if wanted[group]["name"] != found[group]["name"]:
            choices[group] = f"{group}={wanted[group]['name']}"
    found = flatten(hashed_values(compose(*choices.values(), f"seed={config.seed}")))
    wanted = flatten(wanted)
    for here, there, whose in ((wanted, found, "today's configuration"), (found, wanted, "the run's configuration")):
        if missing := sorted(set(here) - set(there)):
            raise UserError(f"{missing[0]}: no such key in {whose}; run it again with today's code to record it")
    for key, value in wanted.items():
        if value != found[key] or key == "noise.ratio":
            keys[key] = f"{key}={_written(key, value)}"
    shown = [choices[group] for group in SHOWN_FIRST if group in choices]
    return " ".join([*shown, *(keys[key] for key in sorted(keys))])


def _denoised(config: DictConfig) -> DictConfig:
    if config.noise.get("ratio") != 0:
        return config
    return OmegaConf.merge(config, {"noise": None}, {"noise": {"name": "none"}})


def _written(key: str, value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value).replace(" ", "")
    other = Path(value) / "config.yaml"
    if other.exists():
        return f"outputs/{run_path(OmegaConf.merge(_denoised(OmegaConf.load(other)), {'variant': None}))}"
    if value.startswith("/") or " " in value:
        raise UserError(f"{key}={value}: neither a path of this machine nor a space can stand in a recorded command")
    return value


def normal(command: str) -> str:
    """Return a command in a form that does not depend on the order of its arguments or on how numbers are written."""
    parts = (argument.partition("=") for argument in command.split())
    return " ".join(sorted(f"{key}={json.dumps(_read(value))}" for key, _, value in parts))


def _read(value: str) -> object:
    try:
        return float(value)  # YAML takes 1e-5 for a word
    except ValueError:
        return yaml.safe_load(value)
