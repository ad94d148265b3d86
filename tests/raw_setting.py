"""Data sets of a few bytes."""

from seqrec.data.source import FileDataset


def load(tmp_path, content, **options):
    """Write the content to a file and load it as a data set."""
    path = tmp_path / "raw"
    path.write_bytes(content)
    return FileDataset(**{"name": "own", "reader": "sequence", "path": str(path)} | options).load(
        tmp_path, tmp_path / "cache"
    )
