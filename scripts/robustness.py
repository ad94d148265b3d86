"""Perturb the inputs of finished runs at test time: `python scripts/robustness.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
