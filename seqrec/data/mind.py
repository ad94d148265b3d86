"""MIND (Wu et al., ACL 2020): behaviors.tsv, a line has the news shown to a user, and the user's earlier clicks."""

import functools
import itertools

import numpy as np
import pandas as pd

from seqrec.data.delimited import Layout, check_lines, lines_of, parse
from seqrec.data.gathered import Gathered
from seqrec.data.raw import RawFile
from seqrec.data.text import fault

COLUMNS = ["impression", "user", "time", "history", "shown"]
LAYOUT = Layout(COLUMNS, "user", "shown")


def read_mind(file: RawFile, gathered: Gathered) -> None:
    """Add `impression user time history shown`, separated by tabs; shown items end in -1 (clicked) or -0 (not).

    A user's sequence is the history of the earliest line followed by the clicked items, by time; lines repeat the history.
    """
    content = file.text()
    blame = functools.partial(check_lines, [content], LAYOUT, file)
    frame = parse(content, LAYOUT, dict.fromkeys(COLUMNS[1:], str), file, blame)
    shown = [words.split() for words in frame["shown"]]
    nameless = np.array([any(word in ("-1", "-0") for word in words) for words in shown], bool)
    unmarked = np.array([any(word[-2:] not in ("-1", "-0") for word in words) for words in shown], bool)
    time = pd.to_datetime(frame["time"], format="%m/%d/%Y %I:%M:%S %p", errors="coerce")
    for wrong, problem in (
        ((frame["user"].str.strip() == "").to_numpy(bool), "the user is empty"),
        (nameless, "a mark -1 or -0 has no item before it"),
        (unmarked, "a shown item ends neither in -1 (clicked) nor in -0 (test files lack these marks)"),
        (time.isna().to_numpy(), "the time is not written like 11/13/2019 8:36:57 AM"),
    ):
        if wrong.any():
            line, _ = next(itertools.islice(lines_of([content], LAYOUT, file), int(wrong.argmax()), None))
            raise fault(file, line, problem)
    frame["clicked"] = [[word[:-2] for word in words if word[-2:] == "-1"] for words in shown]
    frame = frame.iloc[np.argsort(time, kind="stable")]
    first = frame.drop_duplicates("user")
    history = first.assign(item=first["history"].str.split())
    both = pd.concat(
        [part.explode("item")[["user", "item"]] for part in (history, frame.assign(item=frame["clicked"]))]
    )
    both = both.dropna()
    gathered.add(both["user"], both["item"])
