"""Kill runs of every kind at random moments, resume them to the end, and compare them bit for bit with undisturbed ones.

`python -m tests.chaos.kill_matrix` does methods x backbones x losses, which takes hours on two cores; see --help.
"""

import argparse
import itertools
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_resume import KILLED, TRAIN, results, start

METHODS = ("plain", "cl4srec", "coserec", "asarrec", "autosam", "lma4rec", "irl4rec", "cat")
BACKBONES = ("sasrec", "gru4rec", "fmlprec", "bsarec")
LOSSES = ("cross_entropy", "sampled_softmax", "bce")
MOMENTS = {
    "step": 20,
    "evaluate": 5,
    "checkpoint": 12,
    "write": 20,
    "time": 9000,
}  # to the largest number tried of each
FEW = [("plain", "sasrec", "cross_entropy"), ("cat", "gru4rec", "sampled_softmax")]


def refused(message: str) -> bool:
    """Whether a combination is one that does not exist."""
    return "error: method=" in message


def torment(folder: Path, case: tuple[str, ...], kills: int, generator: random.Random) -> Counter | None:
    """Kill a run up to `kills` times and end it; returns the kills by moment, None for a combination that does not exist.

    Raises AssertionError unless it ends with the bits of an undisturbed run.
    """
    method, backbone, loss = case
    overrides = (f"method={method}", f"backbone={backbone}", f"loss={loss}", "trainer.checkpoint_minutes=0")
    overrides += ("method.stage2_epochs=2",) if method == "cat" else ()
    whole = start(folder / "whole", overrides, TRAIN)
    if refused(whole.stderr):
        return None
    assert whole.returncode == 0, whole.stderr
    found = Counter()
    for _ in range(kills):
        moment = generator.choice(list(MOMENTS))
        ended = start(folder / "killed", overrides, KILLED, moment, str(generator.randint(1, MOMENTS[moment])))
        assert ended.returncode in (0, -signal.SIGKILL), (moment, ended.stderr)
        if ended.returncode == 0:
            break
        found[moment] += 1
    last = start(folder / "killed", overrides, TRAIN)
    assert last.returncode == 0, last.stderr
    assert results(folder / "killed") == results(folder / "whole"), (case, found)
    left = [path.name for path in (folder / "killed").glob(".*.tmp")]
    assert found["write"] + found["checkpoint"] + found["time"] == 0 or len(left) <= 1, left
    return found


def main() -> None:
    """Print a row per combination: the kills that it survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="per combination (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--few", action="store_true", help="two combinations only")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no combination after so many (no limit)")
    given = parser.parse_args()
    generator, total, began = random.Random(given.seed), Counter(), time.monotonic()
    cases = FEW if given.few else list(itertools.product(METHODS, BACKBONES, LOSSES))
    print(f"{'method':<10}{'backbone':<10}{'loss':<18}" + "".join(f"{moment:>12}" for moment in MOMENTS), flush=True)
    for case in generator.sample(cases, len(cases)):  # so that a part of them is of all kinds
        if time.monotonic() - began > 60 * given.minutes:
            break
        with tempfile.TemporaryDirectory() as folder:
            found = torment(Path(folder), case, given.kills, generator)
        cells = ["no such combination"] if found is None else [f"{found[moment]:>12}" for moment in MOMENTS]
        print("{:<10}{:<10}{:<18}".format(*case) + "".join(cells), flush=True)
        total.update(found or {})
    print(f"{total.total()} kills, all runs ended with the same bits")


if __name__ == "__main__":
    main()
