"""LMA4Rec: learnable Bernoulli dropout and contrastive views (docs/methods/lma4rec.md)."""

from seqrec.methods.lma4rec.lma4rec import LMA4Rec
