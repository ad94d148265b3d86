"""The counts of a fused scorer as arrays and a description that a program without seqrec can add."""

from dataclasses import asdict

import numpy as np

from seqrec.fusion.fused import Fused


def arrays(fused: Fused) -> dict[str, np.ndarray]:
    """Return the sparse rows of every matrix and the item features [V + 1], by name."""
    found = {}
    for name, matrix in fused.features.matrices.items():
        found |= {f"{name}.{part}": getattr(matrix, part) for part in ("indptr", "indices", "data")}
    items = [name for name in fused.features.names if name not in fused.features.counted]
    return found | dict(zip(items, fused.features.of_items.numpy(), strict=True))


def description(fused: Fused) -> dict:
    """Return the weights of each group of history lengths, and how each count feature is made from its matrix."""
    return {
        "score": "model * query @ items.T + item features + log(1 + sum over the newest items of decay^age row / constant)",
        "lengths": fused.lengths.tolist(),
        "weights": dict(zip(fused.names, fused.weights.T.tolist(), strict=True)),
        "features": {name: asdict(feature) for name, feature in fused.features.counted.items()},
    }
