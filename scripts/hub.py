"""Write a data set of the Hugging Face hub to a Parquet file: `python scripts/hub.py --help`."""

from entry import run

if __name__ == "__main__":
    run()
