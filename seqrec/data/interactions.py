"""All interactions of a data set as a file that other systems read and split as seqrec does."""

from pathlib import Path

import numpy as np
import pandas as pd

from seqrec.data.dataset import Dataset
from seqrec.utils.files import write_atomically


def write_interactions(path: Path, dataset: Dataset) -> None:
    """Write an atomic file of RecBole: raw ids, tabs, and for the time the place in the user's sequence, so that no two are equal.

    Raises OSError.
    """
    lengths = np.diff(dataset.offsets)
    table = pd.DataFrame(
        {
            "user_id:token": np.repeat(dataset.user_ids, lengths),
            "item_id:token": dataset.item_ids[dataset.items],
            "timestamp:float": np.arange(len(dataset.items)) - np.repeat(dataset.offsets[:-1], lengths),
        }
    )
    write_atomically(path, lambda stream: table.to_csv(stream, sep="\t", index=False))
