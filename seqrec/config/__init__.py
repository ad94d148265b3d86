"""Checks, hash and run path of a configuration; must not import torch."""

from seqrec.config.checks import check, check_value, refuse_incomplete, with_evaluation
from seqrec.config.identity import (
    NOT_HASHED,
    YOUNGER_KEYS,
    apply_variant,
    config_hash,
    digest,
    flatten,
    hashed_values,
    method_name,
    run_path,
    training_hash,
    with_younger_keys,
    without_fusion,
)
