"""Evaluate the best epoch of a finished run again: `python scripts/evaluate.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
