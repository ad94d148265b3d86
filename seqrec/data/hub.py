"""Any data set of the Hugging Face hub as a Parquet file, which `dataset=file` reads."""

from pathlib import Path

from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically


def fetch(name: str, subset: str | None, part: str, path: Path) -> list[str]:
    """Write a part (train, test, ...) of a data set of the hub, or of a local folder, to `path`; returns its columns.

    What `save_to_disk` wrote of a single part is that part, whatever its name.
    Raises UserError if the package is missing, or the data set cannot be had.
    """
    try:
        import datasets
    except ImportError:
        raise UserError("this needs the package datasets: pip install 'seqrec[huggingface]'") from None
    try:
        if (Path(name) / "state.json").exists():
            table = datasets.load_from_disk(name)
        else:
            table = datasets.load_dataset(name, subset, split=part)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{name}: the part {part} cannot be had: {first}") from error
    write_atomically(path, table.to_parquet)
    return table.column_names
