"""CAT: cascade-guided adversarial training (docs/methods/cat.md)."""

from seqrec.methods.cat.cat import CAT
