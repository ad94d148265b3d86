"""The shortest command that gives a configuration: what rows of committed results are found by."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from seqrec.config import decisive, run_path
from seqrec.errors import UserError
from seqrec.report.collect import flatten

SHOWN_FIRST = ("dataset", "split", "noise", "backbone", "loss", "method", "eval")
CHOSEN_FIRST = ("method", "loss", *SHOWN_FIRST)  # a method chooses other groups with it, a loss the trainer's plateau
Compose = Callable[..., DictConfig]  # from overrides


def command_of(config: DictConfig, compose: Compose) -> str:
    """Return the arguments of train.py, without seed, that give this configuration today; "" is the default.

    A ratio of 0 is no noise, any other is always there. A run directory is named
    as it is called in the folder outputs/. Raises UserError where
    today's configuration lacks a key of this one, or has one that it lacks.
    """
    choices, keys = {}, {}
    wanted = decisive(_denoised(config))
    for group in dict.fromkeys(CHOSEN_FIRST):
        found = decisive(compose(*choices.values(), f"seed={config.seed}"))
        if wanted[group]["name"] != found[group]["name"]:
            choices[group] = f"{group}={wanted[group]['name']}"
    found = flatten(decisive(compose(*choices.values(), f"seed={config.seed}")))
    wanted = flatten(wanted)
    strange = sorted(set(wanted) ^ set(found))
    if strange:
        raise UserError(f"{strange[0]}: a key that either the run or today's configuration lacks")
    for key, value in wanted.items():
        if value != found[key] or key == "noise.ratio":
            keys[key] = f"{key}={_written(value)}"
    shown = [choices[group] for group in SHOWN_FIRST if group in choices]
    return " ".join([*shown, *(keys[key] for key in sorted(keys))])


def _denoised(config: DictConfig) -> DictConfig:
    return (
        OmegaConf.merge(config, {"noise": None}, {"noise": {"name": "none"}})
        if config.noise.get("ratio") == 0
        else config
    )


def _written(value: object) -> str:
    if isinstance(value, str):
        other = Path(value) / "config.yaml"
        return f"outputs/{run_path(_denoised(OmegaConf.load(other)))}" if other.exists() else value
    return json.dumps(value).replace(" ", "")


def normal(command: str) -> str:
    """Return a command in a form that does not depend on the order of its arguments or on how numbers are written."""
    parts = (argument.partition("=") for argument in command.split())
    return " ".join(sorted(f"{key}={json.dumps(yaml.safe_load(value))}" for key, _, value in parts))


def clean(command: str) -> str:
    """Return a command without its noise."""
    return " ".join(argument for argument in command.split() if not argument.startswith(("noise=", "noise.")))
