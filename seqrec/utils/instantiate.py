"""Objects from configuration nodes: which class a `_target_` names, and whether its arguments fit."""

import functools
import importlib
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import get_args, get_origin

import torch

from seqrec.utils.addresses import current_address
from seqrec.utils.errors import UserError
from seqrec.utils.trust import refuse_changes, trusted

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
KINDS |= {list[int]: "a list of whole numbers", list[float]: "a list of numbers", list[str]: "a list of texts"}
PACKAGES = tuple(
    f"seqrec.{room}." for room in ("augment", "backbones", "data", "fusion", "loggers", "losses", "methods", "noise")
)
OWN_KEYS = ("_target_", "_partial_", "name")


def locate(path: str) -> type:
    """Return the class that a `_target_` names.

    Raises UserError unless one of `PACKAGES`, torch.optim or a package that the user trusts (seqrec/utils/trust.py) itself
    defines the class: a configuration from a stranger must not be able to run anything else, be it through a module's
    imports (seqrec.x.os.system).
    """
    refuse_changes()
    module, _, name = current_address(str(path)).rpartition(".")
    package = module.partition(".")[0]
    home = "torch.optim." if module == "torch.optim" else f"{package}."
    found = None
    if f"{module}.".startswith(PACKAGES) or module == "torch.optim" or (package != "seqrec" and trusted(package)):
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(
                f"{error.name}."
            ):  # the module is there, but something that it imports is not
                raise
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(home):
        hint = f"\n(to run the code of a package of yours that is called {package}: --trust {package}, or SEQREC_TRUST={package})"
        raise UserError(
            f"_target_={path}: not a class of seqrec, torch.optim or a trusted package" + hint * bool(package)
        )
    return found


def make(node: dict, name: str = "", /, **runtime):
    """Build the object that a configuration node describes, with run-time facts added.

    Raises UserError for a wrong key, and for a value that is no number, text or list where one is wanted, calling it `name`.key.
    """
    if not isinstance(node, dict):
        raise UserError(f"{name}={node}: must be a group with _target_")
    target = locate(node.get("_target_"))
    parameters = inspect.signature(target).parameters
    values = {}
    for key, value in node.items():
        if key in OWN_KEYS:
            continue
        full = f"{name}.{key}".removeprefix(".")
        nested = isinstance(value, dict) and "_target_" in value
        values[key] = make(value, full) if nested else value
        if key in parameters:
            check_kind(full, values[key], parameters[key].annotation)
    if node.get("_partial_"):
        unknown = set(values) - set(parameters)
        if unknown:
            raise UserError(f"{node['_target_']}: got an unexpected keyword argument '{unknown.pop()}'")
        if not issubclass(target, torch.optim.Optimizer):
            return functools.partial(_checked_call, target, **values, **runtime)
        made = functools.partial(target, **values, **runtime)
        try:
            made([torch.nn.Parameter(torch.zeros(1))])
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}") from None
        return made
    return _checked_call(target, **values, **runtime)


def _checked_call(target: type, /, *arguments, **keywords):
    try:
        inspect.signature(target).bind(*arguments, **keywords)
    except TypeError as error:
        raise UserError(f"{target.__module__}.{target.__qualname__}: {error}") from None
    return target(*arguments, **keywords)


def check_kind(key: str, value: object, annotation: object) -> None:
    """Raise UserError unless the value is what a parameter takes: a group with _target_, or numbers, text and lists of them.

    Other kinds of parameters are not checked.
    """
    if get_origin(annotation) is Callable and not callable(value):
        raise UserError(f"{key}={value}: must be a group with _target_")
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if not set(kinds) <= set(KINDS):
        return
    if not any(_fits(value, kind) for kind in kinds):
        hint = f"; quotes of its own make it text: \"{key}='...'\"" if str in kinds else ""
        raise UserError(f"{key}={value}: must be {' or '.join(KINDS[kind] for kind in kinds)}{hint}")


def _fits(value: object, kind: type) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(element, *get_args(kind)) for element in value)
    # a whole number is a number, but true is not, though Python counts it as one
    return type(value) is kind or (type(value) is int and kind is float)
