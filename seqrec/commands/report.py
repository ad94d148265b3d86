"""Tables, curves, tests of significance and one page from finished runs: `python scripts/report.py outputs/... --output report/`.

All complete run directories at or below the given folders are read; docs/report.md says what is made of them.
"""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Write a report and print the path of its page."""
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with run directories at or below them")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write")
    parser.add_argument("--metrics", nargs="+", default=["HR@10", "NDCG@10"], help="columns of the table")
    parser.add_argument("--tested", default="NDCG@10", help="metric of the tests, per user")
    parser.add_argument("--baseline", help="method or variant to compare with; plain, if there is one")
    parser.add_argument(
        "--lists",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="recommendations of other systems (.csv, .tsv, .npz)",
    )
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the runs found it")
    given = parser.parse_args(arguments)

    from seqrec.report.write import report

    print(report(**vars(given)))
