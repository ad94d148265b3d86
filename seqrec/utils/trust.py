"""Packages whose classes a configuration may name, besides seqrec's own; must not import torch.

Trust comes from the environment and the command line at start-up, or from installed packages: a configuration can set none
of them. Hydra's hydra.job.env_set changes the environment too, but later, and that is refused.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from seqrec.utils.errors import UserError

VARIABLE = "SEQREC_TRUST"
FLAG = "--trust"
PLUGINS = "seqrec.plugins"  # the group of entry points by which an installed package asks to be trusted
_names = os.environ.get(VARIABLE, "")
_folder = str(Path.cwd())


def trust(names: str) -> None:
    """Trust top-level packages, with commas between the names, in this process and in those that it starts."""
    global _names
    _names = os.environ[VARIABLE] = ",".join(name for name in (_names, names) if name)


def take_flag(arguments: list[str]) -> list[str]:
    """Return the arguments without `--trust NAMES`, which is carried out. Raises UserError if the names are missing."""
    rest = list(arguments)
    while FLAG in rest:
        at = rest.index(FLAG)
        if at + 1 == len(rest):
            raise UserError(f"{FLAG}: give the names of packages, like {FLAG} mylab,otherlab")
        trust(rest.pop(at + 1))
        del rest[at]
    for argument in [argument for argument in rest if argument.startswith(f"{FLAG}=")]:
        trust(argument.partition("=")[2])
        rest.remove(argument)
    return rest


def flag() -> list[str]:
    """Return the arguments that give a command the trust of this process."""
    return [f"{FLAG}={_names}"] if _names else []


def refuse_changes() -> None:
    """Raise UserError if the environment changed since start-up: further processes of this run would start with it."""
    if os.environ.get(VARIABLE, "") != _names:
        raise UserError(
            f"{VARIABLE}={os.environ.get(VARIABLE)}: must be set before the start, not by hydra.job.env_set"
        )


def trusted(package: str) -> bool:
    """Return whether the user trusts a top-level package."""
    return package in _named() or any(point.module.split(".")[0] == package for point in entry_points(group=PLUGINS))


def _named() -> list[str]:
    return [name.strip() for name in _names.split(",")]


class _WorkingDirectory(importlib.abc.MetaPathFinder):
    """Finds trusted packages in the working directory, which is not on the path of a script elsewhere."""

    def find_spec(self, name: str, path=None, target=None):
        if path is None and name in _named():
            return importlib.machinery.PathFinder.find_spec(name, [_folder])
        return None


sys.meta_path.append(_WorkingDirectory())
