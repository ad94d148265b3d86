"""Load a data set, prepared if need be, and print its statistics."""

import sys

from omegaconf import OmegaConf

from seqrec.cli import Parser, compose_config, file_to_write, set_up_logging
from seqrec.config import check_value, refuse_incomplete


def main(arguments: list[str] | None = None) -> None:
    """Print the statistics, hash and warnings of a data set."""
    parser = Parser(__doc__)
    parser.add_argument("dataset", help="a name of conf/dataset, like beauty")
    parser.add_argument("overrides", nargs="*", help="as for training, like dataset.k_core=5 or data_dir=/data")
    parser.add_argument(
        "--interactions",
        type=file_to_write,
        metavar="FILE",
        help="write all interactions for another system, see docs/report.md",
    )
    given = parser.parse_args(arguments)
    overrides = [f"dataset={given.dataset}", *given.overrides]
    sys.argv[1:] = overrides  # by which an error is explained
    set_up_logging()
    config = compose_config(overrides)
    refuse_incomplete(config)
    for key in ("data_dir", "cache_dir"):
        check_value(config, key)

    from seqrec.data.cache import cache_folder
    from seqrec.data.interactions import write_interactions
    from seqrec.data.source import FileDataset
    from seqrec.utils.instantiate import make

    source = make(OmegaConf.to_container(config.dataset, resolve=True), "dataset", name=config.dataset.name)
    dataset = source.load(config.data_dir, config.cache_dir)
    for name, value in dataset.statistics().items():
        print(f"{name:15} {value}")
    print(f"{'sha256':15} {dataset.sha256}")
    if isinstance(source, FileDataset):
        print(f"{'cached copy':15} {source.cache_file(dataset.sha256, cache_folder(config.cache_dir))}")
    if given.interactions:
        write_interactions(given.interactions, dataset)
    for warning in dataset.warnings:
        print(f"warning: {warning}", file=sys.stderr)
