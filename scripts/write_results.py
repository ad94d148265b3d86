"""Write the tables and pictures of README.md and docs/ anew from results/*.csv: `python scripts/write_results.py`.

A table stands between <!-- results: NAME --> and <!-- end of results -->, NAME being an entry of results/tables.yaml.
"""

import argparse
import sys
from pathlib import Path

from seqrec.cli import guarded

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with results/, README.md and docs/")
    root = parser.parse_args().root

    import yaml

    from seqrec.evidence.tables import Results, filled, picture
    from seqrec.files import write_atomically

    results = Results(root / "results")
    specs = yaml.safe_load((root / "results" / "tables.yaml").read_text())
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        old = path.read_text()
        new = filled(old, results, specs)
        if new != old:
            write_atomically(path, new.encode())
            print(path)
    for name, spec in specs.items():
        if spec.get("picture"):
            path = root / "docs" / "pictures" / f"{name}.svg"
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, picture(results, spec).encode())
            print(path)


if __name__ == "__main__":
    sys.exit(guarded(main))
