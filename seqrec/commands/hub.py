"""Write a data set of the Hugging Face hub to a Parquet file, which `dataset=file` reads.

python scripts/hub.py reczoo/Some_Data clicks.parquet --part train
python train.py dataset=file dataset.path=clicks.parquet dataset.user_column=... dataset.item_column=...
"""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Write the file and print its columns."""
    parser = Parser(__doc__)
    parser.add_argument("name", help="owner/name, or a folder: of CSV, JSON or Parquet files, or from save_to_disk")
    parser.add_argument("output", type=Path, help="Parquet file to write")
    parser.add_argument("--subset", help="its configuration, where it has several")
    parser.add_argument("--part", default="train", help="its split (train)")
    given = parser.parse_args(arguments)

    from seqrec.data.hub import fetch

    columns = fetch(given.name, given.subset, given.part, given.output)
    print(f"{given.output}: {', '.join(columns)}")
