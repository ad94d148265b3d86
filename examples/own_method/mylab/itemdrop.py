"""ItemDrop: the next-item loss on histories with holes."""

from dataclasses import replace

import torch

from seqrec.methods.base import Method, ModelSpec


class ItemDrop(Method):
    """Drops each input item but the newest with probability `rate`."""

    def __init__(self, spec: ModelSpec, rate: float):
        super().__init__(spec)
        self.rate = rate

    def losses(self, batch):
        """Return the next-item loss of the thinned histories; dropped slots are not supervised."""
        kept = torch.rand(batch.seq.shape, device=batch.seq.device) >= self.rate
        kept[:, -1] = True
        thinned = replace(batch, seq=batch.seq * kept, target=batch.target * kept)
        hidden = self.encode(thinned.seq, newest=self.newest_alone)
        return {"loss": self.next_item_loss(hidden, thinned), "kept": kept[batch.seq > 0].float().mean()}
