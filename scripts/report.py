"""Tables, curves, tests of significance and one page from finished runs: `python scripts/report.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation

from seqrec.cli import guarded
from seqrec.commands.report import main

if __name__ == "__main__":
    sys.exit(guarded(main))
