"""How well the items that a method drops are known noise: `python scripts/noise_detection.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
