"""Recommend items to users or for sequences of items: `python scripts/recommend.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
