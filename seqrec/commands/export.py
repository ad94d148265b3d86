"""Write a finished run for serving: an encoder of histories, the item matrix, raw item ids, a manifest and an index.

docs/export.md has a program that answers queries from these files without seqrec.
"""

from pathlib import Path

from seqrec.cli import Parser


def main(arguments: list[str] | None = None) -> None:
    """Write the folder and print what it holds."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "--format", nargs="+", choices=("onnx", "torch", "safetensors"), default=["onnx"], help="formats of the encoder"
    )
    parser.add_argument(
        "--index", nargs="?", const="HNSW32", metavar="FACTORY", help="add an index of faiss over the items (HNSW32)"
    )
    parser.add_argument("--output", type=Path, help="folder to write (RUN/export)")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    given = parser.parse_args(arguments)
    output = given.output or given.run / "export"

    from seqrec.export.files import export

    manifest = export(given.run, output, given.format, given.index, given.data_dir)
    for name in sorted([*manifest["files"], "manifest.json"]):
        print(output / name)
    for name, value in manifest.get("index", {}).items():
        print(f"{name:<12} {value}")
