"""Write a finished run for serving: `python scripts/export.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
