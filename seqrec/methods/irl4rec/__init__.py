"""Irl4Rec: a preference and a confounder representation (docs/methods/irl4rec.md)."""

from seqrec.methods.irl4rec.irl4rec import Irl4Rec
