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
    from seqrec.utils.files import write_atomically

    results = Results(root / "results")
    specs = yaml.safe_load((root / "results" / "tables.yaml").read_text())
    documents = (root / "README.md", *sorted((root / "docs").rglob("*.md")))
    wanted = {path: filled(path.read_text(), results, specs) for path in documents}
    for name, spec in specs.items():
        if spec.get("picture"):
            wanted[root / "docs" / "pictures" / f"{name}.svg"] = picture(results, spec)
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, text.encode())
            print(path)


if __name__ == "__main__":
    sys.exit(guarded(main))
