"""Write the tables and pictures of README.md and docs/ anew: `python scripts/write_results.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
