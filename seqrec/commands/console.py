"""The console script `seqrec`: trains like train.py, or runs the command that its first argument names."""

import importlib
import sys

from seqrec.cli import guarded
from seqrec.commands import train
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.trust import FLAG

COMMANDS = (
    "report",
    "evaluate",
    "robustness",
    "recommend",
    "prepare",
    "hub",
    "benchmark",
    "benchmark_gpu",
    "noise_detection",
    "fusion_study",
    "export",
)


def main() -> int:
    """Run what the arguments of the process describe; returns the exit code."""
    pairs = zip(sys.argv[1:], sys.argv, strict=False)
    words = [word for word, before in pairs if before != FLAG and not word.startswith(FLAG)]
    if words and words[0].isidentifier():  # overrides hold a "=", flags begin with "-"
        return guarded(run_command)
    return guarded(train.main, train.INTERRUPTED)


def run_command() -> None:
    """Run the command that the first argument names. Raises UserError for an unknown one."""
    program, name, *arguments = sys.argv
    if name not in COMMANDS:
        raise UserError(f"{name}: no such command{nearest(name, COMMANDS)} (there are {', '.join(COMMANDS)})")
    sys.argv = [f"{program} {name}", *arguments]  # for the usage line
    importlib.import_module(f"seqrec.commands.{name}").main()
