"""Why fusion works: model, counts and both on finished runs: `python scripts/fusion_study.py RUN ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation

from seqrec.cli import guarded
from seqrec.commands.fusion_study import main

if __name__ == "__main__":
    sys.exit(guarded(main))
