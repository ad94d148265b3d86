"""AutoSAM: train on sub-sequences that a learned sampler draws (Zhang et al., arXiv 2311.00388)."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.losses import CrossEntropy, SampledSoftmax
from seqrec.methods.autosam.rewards import discounted_return, perplexity_reward, reinforce, surprises
from seqrec.methods.autosam.sampler import Sampler, fixed_uniform
from seqrec.methods.autosam.subsequence import SubSequence, compact, newer, newest_kept, older
from seqrec.methods.base import Method, ModelSpec, ParamGroup
from seqrec.utils.checkpoint import take_over
from seqrec.utils.errors import UserError, one_of, within

REWARDS, TARGETS = ("likelihood", "pmi"), ("kept", "all")
POLICIES = ("learned", "random", "last")
INFERENCES = ("bernoulli", "threshold", "all", "mean")
PREFIXES_AT_ONCE = 1024  # rows per pass of a backbone that is not causal, when rewards are computed


class AutoSAM(Method):
    """A sampler keeps or drops every item of a history, and the backbone is trained on the kept items.

    The sampler learns by policy gradient from two rewards: how much better the kept items predict the next kept one
    than the whole history does, and how well an item fits its sequence. The policies "random" and "last" are controls
    without a sampler that keep the fraction `keep_rate`. Keys and deviations from the authors' code: docs/methods/autosam.md.
    """

    finished_runs = ("sampler_from",)

    def __init__(
        self,
        spec: ModelSpec,
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
        margin: float,
        threshold: float,
        threshold_step: float,
        threshold_limit: float,
        official_first_item: bool,
        reward_dropout: bool,
        reward_embeddings: bool,
        reward_rows: float,
        reward: str = "likelihood",
        targets: str = "kept",
    ):
        super().__init__(spec)
        for key, value, allowed in (
            ("policy", policy, POLICIES),
            ("inference", inference, INFERENCES),
            ("reward", reward, REWARDS),
            ("targets", targets, TARGETS),
        ):
            one_of(f"method.{key}", value, allowed)
        if policy != "learned" and sampler_from is not None:
            raise UserError(f"method.sampler_from={sampler_from}: method.policy={policy} has no sampler; leave one out")
        for key, value in (("keep_rate", keep_rate), ("reward_rows", reward_rows)):
            if not 0 < value <= 1:
                raise UserError(f"method.{key}={value}: must be above 0 and at most 1")
        within("method.draws", draws, 1)
        self.policy, self.keep_rate = policy, float(keep_rate)
        self.inference, self.draws, self.draw_seed = inference, draws, draw_seed
        self.sampler_optimizer, self.sampler_from = sampler_optimizer, sampler_from
        self.future_weight, self.perplexity_weight = future_weight, perplexity_weight
        self.discount, self.margin = discount, margin
        self.thresholds, self.threshold = (threshold, threshold_step, threshold_limit), threshold
        self.official_first_item = official_first_item
        self.reward_dropout, self.reward_embeddings = reward_dropout, reward_embeddings
        self.reward_rows = 1.0 if self.backbone.causal else reward_rows
        self.targets = targets
        # [V + 1] what is subtracted from the log-probability of an item in its perplexity reward
        self.register_buffer(
            "log_popularity", torch.zeros(spec.num_items + 1) if reward == "pmi" else None, persistent=False
        )
        self.sampler = None
        if policy == "learned":
            self.sampler = sampler(
                dim=spec.dim, max_len=spec.max_len, own_positions=not hasattr(self.backbone, "position")
            )

    @classmethod
    def refuse(cls, loss: type | None, backbone: type | None) -> str | None:
        """Return why the method cannot work with this loss or backbone class, or None if it can."""
        if loss is not None and not issubclass(loss, CrossEntropy | SampledSoftmax):
            return "its rewards are log-probabilities of items: use loss=cross_entropy or loss=sampled_softmax"
        return super().refuse(loss, backbone)

    def setup(self, train: Sequences) -> None:
        """Count the items of the training sequences, for the reward "pmi"."""
        if self.log_popularity is not None:
            count = torch.from_numpy(train.item_counts(len(self.log_popularity) - 1)).float()
            self.log_popularity.copy_((count.clamp(min=1) / count.sum()).log())

    def on_start(self) -> None:
        """Begin with the sampler of another run, if one is named; raises UserError if it is not there or does not fit."""
        if self.sampler_from is not None:
            advice = "give an AutoSAM run with the same dim and method.sampler.*, and with a backbone without positions the same max_len"
            take_over(self, ("sampler.",), self.sampler_from, "method.sampler_from", advice)

    def on_epoch(self, epoch: int) -> None:
        """Increase the threshold th_e above which a kept item has a future reward."""
        start, step, limit = self.thresholds
        self.threshold = min(start + step * epoch, limit)

    def param_groups(self) -> dict[str, ParamGroup]:
        """Give the sampler an optimiser of its own."""
        if self.sampler is None:
            return super().param_groups()
        own = set(self.sampler.parameters())
        rest = [parameter for parameter in self.parameters() if parameter not in own]
        return {"model": ParamGroup(rest), "sampler": ParamGroup(self.sampler.parameters(), self.sampler_optimizer)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Draw a sub-sequence of every row; return L = L_rec + L_RL, its parts, and statistics of the sampler."""
        mask = batch.seq > 0
        probability = self.probability(batch.seq)
        kept = torch.rand_like(probability) < probability
        kept[:, -1] |= ~kept.any()  # a batch without kept items would have no loss
        sub = compact(batch.seq, kept, self.backbone.positions)
        hidden = self.encode(sub.seq, positions=sub.positions, newest=self.newest_alone)
        if self.targets == "kept":
            states, target = hidden, sub.targets(batch.target)
        else:
            column = newest_kept(kept, sub.seq.shape[1])
            states = hidden.gather(1, column.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[2]))
            target = batch.target * (column >= 0)
        trained = target > 0
        loss = self.loss(states[trained], target[trained], self.items.weight, batch.negative)
        sampled = probability.detach()[mask]
        logs = {
            "subsequence_loss": loss.detach(),
            "kept_share": kept.sum() / mask.sum(),
            "keep_probability": sampled.mean(),
            "keep_probability_sd": sampled.std(correction=0),
        }
        if self.sampler is None:
            return {"loss": loss, **logs}
        rows = math.ceil(self.reward_rows * len(mask))
        batch = replace(batch, seq=batch.seq[:rows], target=batch.target[:rows])
        probability, kept = probability[:rows], kept[:rows]
        reward, reward_logs = self.rewards(batch, probability.detach(), kept, sub.first(rows), hidden[:rows].detach())
        policy_loss = reinforce(reward, kept, probability, self.max_len)
        return {"loss": loss + policy_loss, **logs, "rl_loss": policy_loss.detach(), **reward_logs}

    def probability(self, seq: Tensor) -> Tensor:
        """Return the probability p_t of keeping each item of seq [B, T], 0 on padding, [B, T]."""
        mask = seq > 0
        if self.policy == "random":
            return self.keep_rate * mask
        if self.policy == "last":
            age = mask.flip(1).cumsum(1).flip(1) - 1
            return (self.keep_rate * mask.sum(1, keepdim=True) - age).clamp(0, 1) * mask
        layout = self.sampler.layout(mask)
        position = layout.gather(self.backbone.positions(mask))
        own_positions = self.sampler.position
        x = self.items(layout.gather(seq))
        x = x + self.backbone.position(position) if own_positions is None else x
        x = x if self.reward_embeddings else x.detach()
        x = x if own_positions is None else x + own_positions(position)
        return layout.scatter(self.sampler(x, layout).float()[:, None]).squeeze(2)

    @torch.no_grad()
    def keep_probability(self, batch: Batch) -> Tensor:
        """Return p_t of each item of the batch without dropout, 0 on padding, [B, T]; for diagnostics."""
        training = self.training
        probability = self.eval().probability(batch.seq)
        self.train(training)
        return probability

    def position_profile(self, batch: Batch) -> dict[str, Tensor]:
        """Return the probability of keeping each item, to be drawn."""
        return {"keep probability": self.keep_probability(batch).where(batch.seq > 0, torch.nan)}

    @torch.no_grad()
    def rewards(
        self, batch: Batch, probability: Tensor, kept: Tensor, sub: SubSequence, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the reward R_t of every slot [B, T], 0 on padding, and values to log; hidden [B, W, D] is that of the sub-sequences."""
        mask, sub_mask = batch.seq > 0, sub.seq > 0
        first = mask & ~older(mask)
        scored = first & (mask.sum(1, keepdim=True) < self.max_len) & self.official_first_item
        following, initial, kept_following = self.log_probabilities(batch, sub, hidden, scored.any(1))

        # ell_t and ell^_t are at the slot of the item whose log-probability they are
        ell = (older(following) * ~first).masked_scatter(scored, initial)
        rewarded_kept = sub_mask & older(sub_mask)
        ell_kept = torch.zeros_like(ell).scatter(1, sub.slot, older(kept_following))
        rewarded = torch.zeros_like(mask).scatter(1, sub.slot, rewarded_kept)
        gain = (ell_kept - ell) * rewarded
        confident = rewarded & (probability >= self.threshold)
        future = discounted_return(gain * confident, self.discount) * mask

        known = mask & (~first | scored)
        if self.log_popularity is not None:
            ell = ell - self.log_popularity[batch.seq] * known
        surprise = surprises(ell, known, self.margin) * (mask if self.official_first_item else known)
        fit = perplexity_reward(kept, surprise)
        items, candidates = mask.sum(), rewarded.sum().clamp(min=1)
        logs = {
            "full_loss": -following.sum() / items,
            "future_gain": gain.sum() / candidates,
            "confident_share": confident.sum() / candidates,
            "future_reward": future.sum() / items,
            "perplexity_reward": fit.sum() / items,
            "misfit_share": (surprise < 0).sum() / items,
        }
        return self.future_weight * future + self.perplexity_weight * fit, logs

    def log_probabilities(
        self, batch: Batch, sub: SubSequence, hidden: Tensor, scored: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log P of what follows each slot [B, T], of the first items of rows `scored` [B], of what follows each kept slot [B, W].

        The last slot is followed by the row's label. All use the same negatives; 0 on padding.
        """
        training = self.backbone.training
        self.backbone.train(training and self.reward_dropout)
        mask, sub_mask, label = batch.seq > 0, sub.seq > 0, batch.target[:, -1:]
        positions = self.backbone.positions(mask)
        full = self.states(batch.seq, positions, positions + 1)
        if self.backbone.causal and self.reward_dropout:
            kept = hidden[sub_mask]
        else:
            kept = self.states(sub.seq, sub.positions, newer(sub.positions, self.max_len))
        rows = batch.seq[scored]
        initial = self.states_of_padding(rows > 0)
        self.backbone.train(training)
        target = [
            newer(batch.seq, label)[mask],
            rows[(rows > 0) & ~older(rows > 0)],
            newer(sub.seq, label)[sub_mask],
        ]
        states = torch.cat([full, initial, kept])
        value = -self.loss.per_slot(states, torch.cat(target), self.items.weight, batch.negative).float()
        full, initial, kept = value.split([len(part) for part in target])
        spread = torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, full)
        return spread, initial, torch.zeros(sub_mask.shape, device=mask.device).masked_scatter(sub_mask, kept)

    def states(self, seq: Tensor, positions: Tensor, ahead: Tensor) -> Tensor:
        """Return the state at every real slot of seq [B, T], given that slot and older ones only, [n, D].

        A backbone that is not causal runs over every prefix, shifted so that the item to predict, at position
        `ahead` [B, T], comes right after the last slot, as in training.
        """
        mask = seq > 0
        if self.backbone.causal:
            return self.encode(seq, positions=positions)[mask]
        row, slot = mask.nonzero(as_tuple=True)
        if not len(row):
            return self.items.weight[:0]
        source = slot[:, None] + torch.arange(1 - seq.shape[1], 1, device=seq.device)
        cell = (row[:, None], source.clamp(min=0))
        prefix = torch.where(source >= 0, seq[cell], 0)
        moved = positions[cell] + self.max_len - ahead[mask][:, None]
        shifted = torch.where(prefix > 0, moved, self.backbone.positions(prefix > 0))
        parts = zip(prefix.split(PREFIXES_AT_ONCE), shifted.split(PREFIXES_AT_ONCE), strict=True)
        return torch.cat([self.encode(part, positions=at, newest=True)[:, -1] for part, at in parts])

    def states_of_padding(self, mask: Tensor) -> Tensor:
        """Return the state of the padding slot before each row of mask [B, T], [B, D]."""
        if not len(mask):
            return self.items.weight[:0]
        position = torch.full_like(mask[:, :1], self.max_len - 1, dtype=torch.int64)
        if self.backbone.causal:
            oldest = mask.int().argmax(1, keepdim=True)
            position = (self.backbone.positions(mask).gather(1, oldest) - 1).clamp(min=0)
        padding = self.items(torch.zeros_like(position))
        return self.backbone(padding, torch.ones_like(position, dtype=torch.bool), position)[:, 0]

    def score(self, batch: Batch) -> Tensor:
        """Return the score of every item as the next one, [B, V + 1]; the newest item is always kept."""
        if self.inference == "all":
            return super().score(batch)
        probability = self.probability(batch.seq)
        if self.inference == "threshold":
            kept = (probability >= 0.5)[None]
        else:
            draws = self.draws if self.inference == "mean" else 1
            kept = fixed_uniform(self.draw_seed, draws, batch.user, batch.seq.shape[1]) < probability
        kept[..., -1] = True
        sub = compact(batch.seq.repeat(len(kept), 1), kept.flatten(0, 1), self.backbone.positions)
        state = self.encode(sub.seq, positions=sub.positions, newest=True)[:, -1]
        return state.unflatten(0, kept.shape[:2]).mean(0) @ self.items.weight.T
