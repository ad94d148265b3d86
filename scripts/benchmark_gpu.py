"""Measure a GPU in one go: `python scripts/benchmark_gpu.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
