"""Worker processes of a sweep end with the process that started them, also if that one is killed."""

import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable


@functools.cache
def end_with_parent(seconds: float = 1.0, last_words: Callable[[], None] | None = None) -> None:
    """Watch, in a worker process of multiprocessing or joblib, for the end of its parent, and end within `seconds` of it.

    It ends as if it were killed, which run directories survive, after calling `last_words`. In any other process nothing is done.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.pid, seconds, last_words), daemon=True).start()


def _watch(parent: int, seconds: float, last_words: Callable[[], None] | None) -> None:
    while os.getppid() == parent:
        time.sleep(seconds)
    try:
        if last_words is not None:
            last_words()
    finally:
        os._exit(1)
