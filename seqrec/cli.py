"""CLI errors, logging and exit codes; where the configuration is."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrec.utils import hydra_node
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.first_process import is_first, is_first_of_machine
from seqrec.utils.trust import take_flag

log = logging.getLogger("seqrec")
PACKAGE = Path(__file__).parent
hydra_node.install()
LAUNCHERS = {"joblib": "sweep", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # by extra
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|bad_alloc", re.IGNORECASE)


def conf_folder() -> Path:
    """Return the folder of the configuration: in the installed package, or else conf/ of the checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.exists() else PACKAGE.parent / "conf"


def compose_config(overrides: list[str], **options: bool) -> DictConfig:
    """Compose the configuration from any working directory; leaves Hydra as it was in this process.

    `options` are those of Hydra's compose. Raises what Hydra raises; `explain` makes one or two lines of it.
    """
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return compose("config", overrides, **options)
    finally:
        GlobalHydra.instance().hydra = before


def set_up_logging() -> None:
    """Print the package's log lines on standard output, unformatted; of several processes only the first one logs."""
    log.handlers = [logging.StreamHandler(sys.stdout)]
    log.setLevel(logging.INFO if is_first() else logging.ERROR)
    log.propagate = False


def above_zero(text: str) -> int:
    """Return the whole number above 0 that an argument gives; raises argparse's error for anything else."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def file_to_write(text: str) -> Path:
    """Return the file that an argument names; raises argparse's error if its folder does not exist."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist")
    return path


class Parser(argparse.ArgumentParser):
    """Parses the arguments of a command and shows its description as it is written.

    Raises UserError, which names the argument, where argparse would print the usage and exit.
    """

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raise UserError with the message."""
        raise UserError(f"{message} ({self.prog} --help lists all arguments)")


class JobFailed(BaseException):
    """Carries the error of a single run past Hydra, which would print its own line before it."""


def guarded(entry: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Run an entry point; an error that the user can fix becomes one or two lines on standard error. Returns the exit code.

    `interrupted` is printed on Ctrl-C. HYDRA_FULL_ERROR=1 shows the traceback instead.
    """
    if "HYDRA_FULL_ERROR" not in os.environ:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise the error instead of printing it
        os.environ["SEQREC_SHORT_ERROR"] = "1"
    try:
        sys.argv[1:] = take_flag(sys.argv[1:])
        entry()
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    except (Exception, JobFailed) as failure:
        error = failure.__cause__ if isinstance(failure, JobFailed) else failure
        message = explain(error, sys.argv[1:])
        if message is None or "SEQREC_SHORT_ERROR" not in os.environ:
            raise error from None
        if is_first_of_machine() or _connected():
            print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


def _connected() -> bool:
    """Return whether the processes of a run have found one another; before that, those of one machine fail alike."""
    return "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()


def explain(error: Exception, overrides: list[str]) -> str | None:
    """Return one or two lines on an error that the user can fix, or None for a bug; `overrides` are those that were given."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(str(error))
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(str(error), overrides)
    if isinstance(error, OverrideParseException):
        key = error.override.partition("=")[0]
        return (
            f"{error.override}: {error.message.splitlines()[0]}\nQuotes of its own make a value a text: \"{key}='...'\""
        )
    if isinstance(error, HydraException | OmegaConfBaseException):
        return str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: free some space, or take another output_dir"
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        # Hydra does not say which
        groups = [
            word for word in overrides if (conf_folder() / word.partition("=")[0]).is_dir() and not _chooses(word)
        ]
        return f"{' '.join(groups)}: a group takes the name of a choice, as in method=plain; --help lists them"
    if isinstance(error, ValueError) and str(error) == "embedded null byte":
        return "a name in the configuration, of which a path is made, holds a NUL character; take it out"
    if isinstance(error, RuntimeError) and "slurm cluster" in str(error):
        return "hydra/launcher=submitit_slurm: there is no srun here; start the sweep on a machine of a Slurm cluster"
    if isinstance(error, RuntimeError) and "Connection closed by peer" in str(error):
        return (
            "another process of this run has ended; if it does not say why, it was killed, perhaps for want of memory"
        )
    if isinstance(error, MemoryError | RuntimeError) and (
        isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error))
    ):
        return "out of memory; try a smaller trainer.batch_size, max_len or dim, or loss=sampled_softmax with fewer loss.negatives"
    return None


def _unknown_choice(message: str) -> str:
    wanted = re.search(r"Could not find '([^']+)'", message)
    if wanted is None:
        return message.splitlines()[0]
    group, _, choice = wanted.group(1).rpartition("/")
    choices = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
    if not choices:  # Hydra lists files only, and a group may hold nothing but folders
        group, choice, choices = _choices_below(wanted.group(1))
    hint = f"; pip install 'seqrec[{LAUNCHERS[choice]}]' adds {choice}" if choice in LAUNCHERS else ""
    return f"{group}={choice}: no such choice{nearest(choice, choices)}\n  there are: {', '.join(choices)}{hint}"


def _choices_below(path: str) -> tuple[str, str, list[str]]:
    """Return the group, the choice and all choices of the group that a path like experiment/coserec/papr begins with."""
    group, _, choice = path.partition("/")
    folder = conf_folder() / group
    return group, choice, sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def _unknown_key(message: str, overrides: list[str]) -> str:
    wanted = re.search(r"Could not (?:override|delete from config)[^']*'([^']+)'", message)
    if wanted is None:
        return message.splitlines()[0]
    key, keys = wanted.group(1), known_keys(overrides)
    if key in keys:
        return " ".join(message.split("\n")[:2])
    namesakes = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"{key}: no such key{nearest(key, namesakes or keys)} (--cfg job shows all)"


def _chooses(override: str) -> bool:
    """Return whether an override names a choice of a group that there is."""
    return (conf_folder() / (override.replace("=", "/", 1) + ".yaml")).exists()


def known_keys(overrides: list[str]) -> list[str]:
    """Return all keys of the configuration that the valid choices among the overrides give."""
    config = compose_config(list(filter(_chooses, overrides)))
    keys = []

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            keys.append(f"{prefix}{name}")
            child = node._get_node(name)
            if OmegaConf.is_dict(child) and not child._is_none():
                walk(child, f"{prefix}{name}.")

    walk(config, "")
    return keys
