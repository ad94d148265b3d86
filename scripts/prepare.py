"""Load a data set, prepared if need be, and print its statistics: `python scripts/prepare.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
