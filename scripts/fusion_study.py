"""Why fusion works: model, counts and both on finished runs: `python scripts/fusion_study.py RUN ...`."""

from entry import run

if __name__ == "__main__":
    run()
