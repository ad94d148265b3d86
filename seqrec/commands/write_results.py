"""Write the tables and pictures of the documents anew from results/*.csv: `python scripts/write_results.py`.

results/leaderboard.json is written too.

A table is between <!-- results: NAME --> and <!-- end of results -->, NAME being an entry of results/tables.yaml.
"""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Rewrite the documents and pictures that have changed, and print their paths."""
    parser = Parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="folder with results/, README.md and docs/ (here)")
    root = parser.parse_args(arguments).root

    from seqrec.report import figures
    from seqrec.report.committed import Results, Wanted
    from seqrec.report.documents import filled
    from seqrec.report.leaderboard import as_json, entries
    from seqrec.utils.files import write_atomically

    results = Results(root / "results", Wanted(root / "results" / "tables.yaml"))
    documents = (root / "README.md", *sorted((root / "docs").rglob("*.md")))
    wanted = {path: filled(path.read_text(), results) for path in documents}
    for name, spec in results.wanted.tables.items():
        if spec.get("picture"):
            wanted[root / "docs" / "pictures" / f"{name}.svg"] = figures.PICTURES[spec["kind"]](results, spec)
    wanted[root / "results" / "leaderboard.json"] = as_json(entries(results))
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, text.encode())
            print(path)
