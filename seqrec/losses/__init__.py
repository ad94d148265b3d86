"""Next-item losses, the chunked full cross-entropy, and contrastive losses."""

from seqrec.losses.next_item import (
    BayesianPersonalisedRanking,
    BinaryCrossEntropy,
    CrossEntropy,
    GeneralisedBinaryCrossEntropy,
    NextItemLoss,
    SampledSoftmax,
)
