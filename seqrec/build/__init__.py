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
