"""An approximate index over the item matrix, and how many of the exact top items it finds."""

import faiss
import numpy as np

EXPLORED = 256  # candidates that a graph index keeps while it searches
PROBED = 16  # cells that an inverted file searches


def build(items: np.ndarray, factory: str) -> faiss.Index:
    """Return an index of inner products over items [V + 1, D]; its ids are the rows, without padding.

    `factory` is a description of faiss, like HNSW32, IVF256,Flat or Flat. Raises ValueError if faiss does not know it.
    """
    try:
        index = faiss.index_factory(items.shape[1], f"IDMap,{factory}", faiss.METRIC_INNER_PRODUCT)
        index.train(items[1:])
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    index.add_with_ids(items[1:], np.arange(1, len(items)))
    inner = faiss.downcast_index(index.index)
    if hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = EXPLORED
    if hasattr(inner, "nprobe"):
        inner.nprobe = PROBED
    return index


def search(index: faiss.Index, queries: np.ndarray, seen: list[np.ndarray], k: int) -> list[np.ndarray]:
    """Return the `k` best items of each query [B, D] that are not `seen`: more are fetched, and the seen ones dropped."""
    most = max((len(items) for items in seen), default=0)
    found = index.search(queries, min(k + most, index.ntotal))[1]
    return [row[(row > 0) & ~np.isin(row, items)][:k] for row, items in zip(found, seen, strict=True)]


def recall(index: faiss.Index, items: np.ndarray, queries: np.ndarray, seen: list[np.ndarray], k: int) -> float:
    """Return the mean fraction of the exact `k` best items that are not seen which the index finds."""
    scores = queries @ items.T
    scores[:, 0] = -np.inf
    for row, hidden in enumerate(seen):
        scores[row, hidden] = -np.inf
    exact = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    found = search(index, queries, seen, k)
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(exact, found, strict=True)]))
