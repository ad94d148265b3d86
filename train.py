"""Run one experiment, or a sweep with -m: `python train.py --help` lists the choices."""

import sys

from seqrec.cli import guarded
from seqrec.commands.train import INTERRUPTED, main

if __name__ == "__main__":
    sys.exit(guarded(main, INTERRUPTED))
