"""seqrec: experiments in robust sequential recommendation."""

import os

os.environ.setdefault(
    "THP_MEM_ALLOC_ENABLE", "1"
)  # torch then asks for large pages: scores of large catalogues come faster

__version__ = "0.1.0"
__all__ = ["load", "run"]


def __getattr__(name: str):
    """Import the functions for notebooks at their first use, so that `import seqrec` stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'seqrec' has no attribute '{name}'")
    from seqrec import api

    return getattr(api, name)
