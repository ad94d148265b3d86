"""Load a data set, prepared if need be, and print what it holds: python scripts/prepare.py beauty [key=value ...]."""

import argparse
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation

from seqrec.build import make
from seqrec.cli import guarded
from seqrec.data.cache import cache_folder
from seqrec.data.source import FileDataset

CONF = Path(__file__).resolve().parents[1] / "conf"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="a name of conf/dataset, like beauty")
    parser.add_argument("overrides", nargs="*", help="as for train.py, like dataset.k_core=5 or data_dir=/data")
    arguments = parser.parse_args()
    initialize_config_dir(str(CONF), version_base="1.3")
    config = compose("config", overrides=[f"dataset={arguments.dataset}", *arguments.overrides])
    source = make(OmegaConf.to_container(config.dataset, resolve=True), "dataset", name=config.dataset.name)
    dataset = source.load(config.data_dir, config.cache_dir)
    for name, value in dataset.statistics().items():
        print(f"{name:15} {value}")
    print(f"{'sha256':15} {dataset.sha256}")
    if isinstance(source, FileDataset):
        print(f"{'cached copy':15} {source.cache_file(dataset.sha256, cache_folder(config.cache_dir))}")
    for warning in dataset.warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(guarded(main))
