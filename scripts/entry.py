"""What a script of this folder does: run the command of seqrec.commands that has its name."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation

from seqrec.cli import guarded


def run() -> None:
    command = importlib.import_module(f"seqrec.commands.{Path(sys.argv[0]).stem}")
    sys.exit(guarded(command.main))
