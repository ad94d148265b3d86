"""AutoSAM: train on sub-sequences that a learned sampler draws (Zhang et al., arXiv 2311.00388)."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqrec.backbones.base import Backbone
from seqrec.backbones.layout import length_blocks
from seqrec.batch import Batch
from seqrec.errors import UserError
from seqrec.losses import CrossEntropy, NextItemLoss, SampledSoftmax
from seqrec.methods.base import Method, ParamGroup
from seqrec.methods.sampler import Sampler, fixed_uniform

POLICIES = ("learned", "random", "last")
INFERENCES = ("bernoulli", "threshold", "all", "mean")
PREFIXES_AT_ONCE = 1024  # of backbones that are not causal


@dataclass(frozen=True)
class SubSequence:
    """The kept items of a batch, right-aligned."""

    seq: Tensor  # [B, W]
    positions: Tensor  # [B, W] their original positions
    slot: Tensor  # [B, W] their original slots


class AutoSAM(Method):
    """A sampler keeps or drops every item of a history; the backbone is trained on what is kept.

    The sampler learns by policy gradient from two rewards: how much better the kept context predicts the next kept
    item, and how well an item fits its sequence. `policy` random and last are controls without a sampler, at the
    expected share `keep_rate`. Reconstruction where the authors' code is silent: see docs/methods/autosam.md.
    """

    def __init__(
        self,
        backbone: Callable[..., Backbone],
        loss: NextItemLoss,
        num_items: int,
        dim: int,
        max_len: int,
        policy: str,
        keep_rate: float,
        inference: str,
        draws: int,
        draw_seed: int,
        sampler: Callable[..., Sampler],
        sampler_optimizer: Callable[..., torch.optim.Optimizer],
        sampler_from: str | None,
        future_weight: float,
        perplexity_weight: float,
        discount: float,
        surprise_margin: float,
        threshold_start: float,
        threshold_step: float,
        threshold_end: float,
        official_first_item: bool,
        reward_dropout: bool,
        reward_embeddings: bool,
    ):
        super().__init__(backbone, loss, num_items, dim, max_len)
        _check("policy", policy, POLICIES)
        _check("inference", inference, INFERENCES)
        if policy == "random" and inference == "threshold":
            raise UserError("method.inference=threshold needs probabilities that differ; with method.policy=random use bernoulli")
        if sampler_from is not None and policy != "learned":
            raise UserError(f"method.sampler_from={sampler_from} needs method.policy=learned, not {policy}")
        self.policy, self.keep_rate = policy, keep_rate
        self.inference, self.draws, self.draw_seed = inference, draws, draw_seed
        self.sampler_optimizer, self.sampler_from = sampler_optimizer, sampler_from
        self.future_weight, self.perplexity_weight, self.discount = future_weight, perplexity_weight, discount
        self.surprise_margin = surprise_margin
        self.threshold_start, self.threshold_step, self.threshold_end = threshold_start, threshold_step, threshold_end
        self.official_first_item, self.reward_dropout = official_first_item, reward_dropout
        self.reward_embeddings = reward_embeddings
        self.threshold = threshold_start
        self.sampler = None
        if policy == "learned":
            self.sampler = sampler(dim=dim, max_len=max_len, own_positions=not hasattr(self.backbone, "position"))

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Say why the method cannot work with this loss or backbone class, or return None."""
        if loss is not None and not issubclass(loss, CrossEntropy | SampledSoftmax):
            return "its rewards are log-probabilities of items; use loss=cross_entropy or loss=sampled_softmax"
        return super().refuse(loss, backbone)

    def on_stage(self, stage: int) -> int | None:
        """Take over the sampler of another run, if one is named; raises UserError if it is not there or does not fit."""
        if self.sampler_from is not None:
            self.sampler.load_state_dict(_sampler_weights(self.sampler_from, self.sampler))
        return None

    def on_epoch(self, epoch: int) -> None:
        """Raise the probability from which a kept item gives a future reward (th_e)."""
        self.threshold = min(self.threshold_start + self.threshold_step * epoch, self.threshold_end)

    def param_groups(self) -> dict[str, ParamGroup]:
        """Give the sampler its own optimiser."""
        own = set() if self.sampler is None else set(self.sampler.parameters())
        groups = {"model": ParamGroup([parameter for parameter in self.parameters() if parameter not in own])}
        if own:
            groups["sampler"] = ParamGroup(list(self.sampler.parameters()), self.sampler_optimizer)
        return groups

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Draw a sub-sequence of every row; return L = L_rec + L_RL, its parts and how the sampler does."""
        mask = batch.seq > 0
        probability = self.probability(batch.seq)
        kept = torch.rand_like(probability) < probability
        kept[:, -1] |= ~kept.any()  # a batch of which nothing is left would have no loss
        sub = self.compact(batch.seq, kept)
        hidden = self.encode(sub.seq, positions=sub.positions)
        target = next_kept(sub, batch.target)
        trained = target > 0
        loss = self.loss(hidden[trained], target[trained], self.items.weight, batch.negative)
        with torch.no_grad():
            of_items = probability[mask]
            logs = {
                "keep_probability": of_items.mean(),
                "keep_probability_sd": of_items.std(correction=0),
                "kept_share": kept.sum() / mask.sum(),
                "subsequence_loss": loss.detach(),
            }
        if self.sampler is None:
            return {"loss": loss, **logs}
        reward, more = self.rewards(batch, probability, kept, sub, hidden)
        chosen = torch.where(kept, probability, 1 - probability)
        # by the full width, so that neither trimming nor grouping by length changes the weight of the rewards
        policy_loss = -(reward * (chosen + 1e-12).log()).sum() / (len(reward) * self.max_len)
        return {"loss": loss + policy_loss, **logs, "rl_loss": policy_loss.detach(), **more}

    def probability(self, seq: Tensor) -> Tensor:
        """Return the probability of keeping each item of seq [B, T], 0 on padding, [B, T]."""
        mask = seq > 0
        if self.policy == "random":
            return mask * self.keep_rate
        if self.policy == "last":
            newer = mask.flip(1).cumsum(1).flip(1) - 1
            return (self.keep_rate * mask.sum(1, keepdim=True) - newer).clamp(0, 1) * mask
        layout = length_blocks(mask)
        position = layout.gather(self.backbone.positions(mask))
        x = self.items(layout.gather(seq))
        if self.sampler.position is None:
            x = x + self.backbone.position(position)
        if not self.reward_embeddings:
            x = x.detach()
        if self.sampler.position is not None:
            x = x + self.sampler.position(position)
        return layout.scatter(self.sampler(x, layout)[:, None]).squeeze(2)

    @torch.no_grad()
    def keep_probability(self, seq: Tensor) -> Tensor:
        """Return the probability of keeping each item of seq [B, T] without dropout, 0 on padding, [B, T]; for diagnostics."""
        training = self.training
        self.eval()
        probability = self.probability(seq)
        self.train(training)
        return probability

    def compact(self, seq: Tensor, kept: Tensor) -> SubSequence:
        """Move the kept items of seq [B, T] to the right, each with its original position."""
        width = int(kept.sum(1).max())
        slot = kept.int().argsort(1, stable=True)[:, -width:]
        moved = (seq * kept).gather(1, slot)
        mask = moved > 0
        original = self.backbone.positions(seq > 0).gather(1, slot)
        return SubSequence(moved, torch.where(mask, original, self.backbone.positions(mask)), slot)

    def rewards(
        self, batch: Batch, probability: Tensor, kept: Tensor, sub: SubSequence, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return R_t = future_weight G_t + perplexity_weight r_t^pp, 0 on padding, [B, T], and what to log.

        `hidden` [B, W, D] are the states of the training pass over the sub-sequences.
        """
        mask = batch.seq > 0
        with torch.no_grad():
            full, first, kept_context = self.log_probabilities(batch, sub, hidden)
            own = torch.cat([first[:, None], full[:, :-1]], 1)  # log P(x_t | x_<t)
            inner = mask & torch.cat([torch.zeros_like(mask[:, :1]), mask[:, :-1]], 1)
            known = inner | (first != 0)[:, None] & mask & ~inner
            advantage, rewarded = self.advantages(own, kept_context, sub)
            confident = rewarded & (probability >= self.threshold)
            future = discounted_return(advantage * confident, self.discount) * mask
            surprise = surprises(own, known, self.surprise_margin) * (mask if self.official_first_item else known)
            fit = (2 * kept.float() - 1) * surprise
            logs = {
                "full_loss": -full.sum() / mask.sum(),
                "future_gain": (advantage * rewarded).sum() / rewarded.sum().clamp(min=1),
                "confident_share": confident.sum() / rewarded.sum().clamp(min=1),
                "future_reward": future.sum() / mask.sum(),
                "perplexity_reward": fit.sum() / mask.sum(),
                "misfit_share": (surprise < 0).sum() / mask.sum(),
            }
        return self.future_weight * future + self.perplexity_weight * fit, logs

    def log_probabilities(self, batch: Batch, sub: SubSequence, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log P of what follows each slot in the sequence [B, T], of its first item [B], and of what follows in the sub-sequence [B, W].

        A first item without a log-probability has 0.
        """
        training = self.backbone.training
        self.backbone.train(training and self.reward_dropout)
        mask, sub_mask = batch.seq > 0, sub.seq > 0
        newest = batch.target[:, -1:]
        positions = self.backbone.positions(mask)
        states = [self.states(batch.seq, positions, positions + 1)]
        targets = [torch.cat([batch.seq[:, 1:], newest], 1)[mask]]
        if self.backbone.causal and self.reward_dropout:
            states.append(hidden.detach()[sub_mask])
        else:
            after = torch.cat([sub.positions[:, 1:], torch.full_like(newest, self.max_len)], 1)
            states.append(self.states(sub.seq, sub.positions, after))
        targets.append(torch.cat([sub.seq[:, 1:], newest], 1)[sub_mask])
        padded = torch.zeros_like(mask[:, 0])
        if self.official_first_item:
            padded = mask.sum(1) < self.max_len
            oldest = mask.int().argmax(1, keepdim=True)
            place = (positions.gather(1, oldest) - 1).clamp(min=0) if self.backbone.causal else self.max_len - 1
            states.append(self.after_padding(place)[padded])
            targets.append(batch.seq.gather(1, oldest)[:, 0][padded])
        self.backbone.train(training)
        value = -self.loss.per_slot(torch.cat(states), torch.cat(targets), self.items.weight, batch.negative)
        full, kept_context, first = value.split([int(mask.sum()), int(sub_mask.sum()), len(value) - 0])
        return _spread(full, mask), _spread(first, padded), _spread(kept_context, sub_mask)
