"""From the configuration to objects; nothing else sees both."""

from seqrec.build.finished import load, load_best, make_fusion, source_of_run
from seqrec.build.objects import (
    Experiment,
    build,
    make_evaluator,
    make_trainer,
    one_device,
    open_checkpoints,
    tune_on_validation,
)
from seqrec.build.refusals import refuse_impossible

__all__ = [
    "Experiment",
    "build",
    "load",
    "load_best",
    "make_evaluator",
    "make_fusion",
    "make_trainer",
    "one_device",
    "open_checkpoints",
    "refuse_impossible",
    "source_of_run",
    "tune_on_validation",
]
