"""The command line's manners: short answers to mistakes, logging, exit codes."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrec.utils.errors import UserError, nearest
from seqrec.utils.trust import take_flag

log = logging.getLogger("seqrec")
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|bad_alloc", re.IGNORECASE)


def set_up_logging() -> None:
    """Let the package's log lines go to standard output as they are; of several processes only the first one speaks."""
    log.handlers = [logging.StreamHandler(sys.stdout)]
    log.setLevel(logging.INFO if int(os.environ.get("LOCAL_RANK", 0)) == 0 else logging.ERROR)
    log.propagate = False


def above_zero(text: str) -> int:
    """Return the whole number that an argument of a script stands for; argparse's error if it is not above 0."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def file_to_write(text: str) -> Path:
    """Return the file that an argument of a script names; argparse's error if its folder is not there."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} is not there")
    return path


class JobFailed(BaseException):
    """Carries the error of a single run past Hydra, which would print a line of its own before it."""


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy the log lines to a file, with the time."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def guarded(entry: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Run an entry point; what the user can mend becomes one or two lines on standard error. Returns the exit code.

    `interrupted` is what Ctrl-C is answered with. HYDRA_FULL_ERROR=1 shows the traceback instead.
    """
    if "HYDRA_FULL_ERROR" not in os.environ:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # keeps Hydra from printing its own report and lets the error through
        os.environ["SEQREC_SHORT_ERROR"] = "1"
    try:
        sys.argv[1:] = take_flag(sys.argv[1:])
        entry()
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    except (Exception, JobFailed) as failure:
        error = failure.__cause__ if isinstance(failure, JobFailed) else failure
        message = explain(error)
        if message is None or "SEQREC_SHORT_ERROR" not in os.environ:
            raise error from None
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


def explain(error: Exception) -> str | None:
    """Return one or two lines on an error that the user can mend, or None for one of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(str(error))
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(str(error))
    if isinstance(error, HydraException | OmegaConfBaseException):
        return str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: free some space, or take another output_dir"
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
    if not choices:  # Hydra lists the files of the folder alone, and a group may hold nothing but folders
        group, choice, choices = _choices_below(wanted.group(1))
    hint = '; pip install -e ".[sweep]" adds joblib' if group == "hydra/launcher" else ""
    return f"{group}={choice}: no such choice{nearest(choice, choices)}\n  there are: {', '.join(choices)}{hint}"


def _choices_below(path: str) -> tuple[str, str, list[str]]:
    """Return the group, the choice and all choices of the group that a path like experiment/coserec/papr begins with."""
    group, _, choice = path.partition("/")
    folder = _conf() / group
    return group, choice, sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def _unknown_key(message: str) -> str:
    wanted = re.search(r"Could not (?:override|delete from config)[^']*'([^']+)'", message)
    if wanted is None:
        return message.splitlines()[0]
    key, keys = wanted.group(1), known_keys()
    namesakes = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"{key}: no such key{nearest(key, namesakes or keys)} (python train.py --cfg job shows all)"


def _conf() -> Path:
    script = Path(sys.argv[0]).resolve()
    return next(parent / "conf" for parent in script.parents if (parent / "conf" / "config.yaml").exists())


def known_keys() -> list[str]:
    """Return all keys of the configuration that the command line's valid choices give."""
    folder = _conf()
    choices = [a for a in sys.argv[1:] if (folder / (a.replace("=", "/", 1) + ".yaml")).exists()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose("config", choices)
    keys = []

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            keys.append(prefix + name)
            child = node._get_node(name)
            if OmegaConf.is_dict(child) and not child._is_none():
                walk(child, f"{prefix}{name}.")

    walk(config, "")
    return keys
