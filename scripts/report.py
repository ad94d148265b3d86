"""Tables, curves, tests of significance and one page from finished runs: `python scripts/report.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
