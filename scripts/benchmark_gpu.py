"""Measure a GPU in one go: `python scripts/benchmark_gpu.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation

from seqrec.cli import guarded
from seqrec.commands.benchmark_gpu import main

if __name__ == "__main__":
    sys.exit(guarded(main))
