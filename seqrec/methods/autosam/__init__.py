"""AutoSAM: sampling of the history, learned by reinforcement (docs/methods/autosam.md)."""

from seqrec.methods.autosam.autosam import AutoSAM
from seqrec.methods.autosam.sampler import Sampler
