"""Runs train.py and kills itself with SIGKILL at a chosen moment: `killed_run.py WHERE N override ...`.

WHERE is "step" (after the N-th optimiser step), "evaluate" (within the N-th evaluation), "checkpoint" or "write" (with the
N-th checkpoint, or file of any kind, half written) or "time" (after N milliseconds).
"""

import io
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
where, number = sys.argv[1], int(sys.argv[2])
sys.argv = [str(ROOT / "train.py"), *sys.argv[3:]]
calls = 0


def die_at(function, before: bool):
    """Wrap a function so that its N-th call is the last thing that happens."""

    def wrapped(*arguments, **keywords):
        global calls
        calls += 1
        if before and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **keywords)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


if where == "step":
    from seqrec.training.trainer import Trainer

    Trainer.update = die_at(Trainer.update, before=False)
elif where == "evaluate":
    from seqrec.evaluation.evaluator import Evaluator

    Evaluator._count = die_at(Evaluator._count, before=True)
elif where in ("checkpoint", "write"):
    from seqrec.utils import files

    def half(path, content):
        global calls
        calls += 1
        if callable(content):
            stream = io.BytesIO()
            content(stream)
            content = stream.getvalue()
        if calls == number:
            files.temporary_name(path).write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, content)

    original = files.write_atomically
    if where == "write":
        files.write_atomically = half  # before others take it from there
    else:
        from seqrec.utils import checkpoint

        checkpoint.write_atomically = half
elif where == "time":
    threading.Timer(number / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

runpy.run_path(sys.argv[0], run_name="__main__")
