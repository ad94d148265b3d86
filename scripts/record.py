"""Add finished runs to results/*.csv: `python scripts/record.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
