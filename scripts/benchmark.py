"""Time an experiment, alone or beside others: `python scripts/benchmark.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
