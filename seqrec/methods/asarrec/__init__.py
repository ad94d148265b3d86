"""AsarRec: augmentation matrices learned adversarially to the encoder (docs/methods/asarrec.md)."""

from seqrec.methods.asarrec.asarrec import AsarRec
