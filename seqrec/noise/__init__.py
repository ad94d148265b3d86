"""Noise: operators on sequences, foreign items, and the corruption of training histories."""

import importlib
import pkgutil

from seqrec.noise.training import TrainingNoise

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):  # each may register operators
    importlib.import_module(_module.name)
