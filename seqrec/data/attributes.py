"""Attributes of items: from (item, value) pairs to a table of values."""

import json

import numpy as np
import pandas as pd

from seqrec.data.raw import RawFile
from seqrec.utils.errors import UserError


def attribute_table(items: np.ndarray, values: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """Return the distinct values of each item as numbers from 1, [V + 1, A] int32, filled up with 0.

    `items` and `values` [N] are pairs of a raw item id and a value; items that are not in `item_ids` [V + 1] are left out.
    """
    item = pd.Index(item_ids[1:].astype(str)).get_indexer(items.astype(str)) + 1
    _, value = np.unique(values[item > 0], return_inverse=True)
    item, value = np.unique(np.stack([item[item > 0], value + 1]), axis=1)
    count = np.bincount(item, minlength=len(item_ids))
    table = np.zeros((len(item_ids), count.max(initial=0)), np.int32)
    table[item, np.arange(len(item)) - (np.cumsum(count) - count)[item]] = value
    return table


def read_item_values(file: RawFile) -> tuple[np.ndarray, np.ndarray]:
    """Read a JSON object, item id to a value or a list of values, and return pairs of an item id and a value, as text, [N] each.

    Raises UserError for anything else.
    """
    content = file.text()
    try:
        pairs = [
            (item, value)
            for item, values in json.loads(content).items()
            for value in (values if isinstance(values, list) else [values])
        ]
        good = all(isinstance(value, str | int | float) for _, value in pairs)
    except (AttributeError, RecursionError, ValueError):
        good = False
    if not good:
        raise UserError(f'{file}: must be a JSON object like {{"item id": ["value", "value"]}}')
    if not pairs:
        raise UserError(f"{file} has no attributes")
    items, values = zip(*pairs, strict=True)
    return np.array(items), np.array(list(map(str, values)))
