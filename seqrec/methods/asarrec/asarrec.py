"""AsarRec: learned augmentation matrices for contrastive learning (arXiv 2512.14047); reconstruction: see docs/methods/asarrec.md."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.losses.contrastive import NTXent, weighted_sum
from seqrec.methods.asarrec import matrices, values, views
from seqrec.methods.asarrec.alive import too_few_or_many
from seqrec.methods.asarrec.augmentation_encoder import VIEWS, AugmentationEncoder
from seqrec.methods.asarrec.candidates import Candidates
from seqrec.methods.asarrec.learnt import Multiplier, Shares
from seqrec.methods.asarrec.matrices import Effects, Rules
from seqrec.methods.base import Method, ModelSpec, ParamGroup
from seqrec.utils.checkpoint import take_over
from seqrec.utils.errors import UserError
from seqrec.utils.gradients import frozen, gradient_norm

START = {"budget": 0.1, "diversity_weight": 0.1}  # of what is learnt: the mean budget of the users, the first weight


class AsarRec(Method):
    """Contrastive learning of two views of each history, made by learned transformation matrices.

    Reconstruction: see docs/methods/asarrec.md, which also explains every argument. After a warm-up on the next-item loss
    alone, each batch updates the augmenter phi (informativeness, diversity, semantic invariance; the recommender frozen
    and in eval mode), then the recommender theta (next-item loss and contrastive loss on the same hard views). Raises
    UserError on a value that is not allowed.
    """

    finished_runs = ("augmenter_from",)

    def __init__(
        self,
        spec: ModelSpec,
        candidates: int,
        candidate_source: str,
        candidate_recent: int,
        stay: float,
        gumbel: float,
        iterations: int,
        power: float,
        threshold: float,
        shortest: int,
        least: float,
        compact: bool,
        weight: float,
        vector: str,
        cosine: bool,
        temperature: float,
        info_mode: str,
        info_weight: float,
        diversity_weight: float | str,
        diversity_margin: float,
        invariance_weight: float,
        invariance: str,
        budget: float | str,
        warmup_epochs: int,
        clip: float | None,
        augmenter_optimizer: Callable[..., torch.optim.Optimizer],
        augmenter_clip: float | None,
        augmenter_from: str | None,
        augmenter_frozen: bool,
        augmenter_sees: str = "embeddings",
        occupancy: bool = False,
        candidate_place: str = "left",
    ):
        values.check(locals())
        beside = candidate_place == "beside"
        extra = spec.max_len if beside else candidates
        super().__init__(replace(spec, backbone=lambda dim, max_len: spec.backbone(dim=dim, max_len=max_len + extra)))
        if occupancy and not self.backbone.takes_key_bias:
            raise UserError("method.occupancy=true: the backbone has no attention that it could enter; take a SASRec")
        self.augmenter_sees, self.occupancy, self.beside = augmenter_sees, occupancy, beside
        self.place = views.beside if beside else views.extend
        self.own = slice(1, None, 2) if beside else slice(candidates, None)  # slots of the history
        recent = min(candidate_recent, spec.max_len)
        self.candidates = Candidates(spec.num_items, candidates, candidate_source, recent, candidate_place)
        self.augmenter = AugmentationEncoder(spec.dim, spec.max_len + extra, stay, gumbel)
        if budget == values.LEARNT:
            self.augmenter.shares, budget = Shares(spec.dim), START["budget"]
        if diversity_weight == values.LEARNT:
            self.augmenter.multiplier = Multiplier(START["diversity_weight"])
        self.rules = Rules(iterations, power, threshold, invariance, budget)
        self.shortest, self.least, self.compact = shortest, least, compact
        self.weight, self.contrast = weight, NTXent(vector, cosine, temperature)
        self.info_weight = info_weight * values.INFO_SIGN[info_mode]
        self.diversity_weight, self.diversity_margin = diversity_weight, diversity_margin
        self.invariance_weight = invariance_weight
        self.warmup_epochs, self.patience_from = warmup_epochs, warmup_epochs
        self.clip, self.augmenter_clip, self.augmenter_optimizer = clip, augmenter_clip, augmenter_optimizer
        self.augmenter_from, self.augmenter_frozen = augmenter_from, augmenter_frozen
        self.augmenter.requires_grad_(not augmenter_frozen)
        self.augmenting = False
        self.register_buffer("changed", torch.zeros(2, dtype=torch.long))  # views that differ and all views, this epoch
        self.register_buffer("warned", torch.zeros((), dtype=torch.bool))

    def setup(self, train: Sequences) -> None:
        """Choose the items to insert, from the training sequences."""
        self.candidates.setup(train)

    def on_start(self) -> None:
        """Load the augmenter of another run, if one is named; raises UserError if it is not there or does not fit."""
        if self.augmenter_from is not None:
            advice = "give an AsarRec run with the same dim, max_len and method.candidates"
            take_over(self, ("augmenter.",), self.augmenter_from, "method.augmenter_from", advice)

    def on_epoch(self, epoch: int) -> None:
        """End the warm-up when it is over; warn if too few or too many views of the last epoch differed from their history."""
        self.augmenting = epoch >= self.warmup_epochs
        differ, total = self.changed.tolist()
        if not total:
            return
        self.warned.fill_(too_few_or_many(differ / total, epoch, bool(self.warned)))
        self.changed.zero_()

    def param_groups(self) -> dict[str, ParamGroup]:
        """Return the recommender's parameters and, unless it is frozen, the augmenter's."""
        groups = {"recommender": ParamGroup(self.recommender_parameters(), clip=self.clip)}
        if not self.augmenter_frozen:
            phi = self.augmenter.parameters()
            groups["augmenter"] = ParamGroup(phi, self.augmenter_optimizer, self.augmenter_clip)
        return groups

    def recommender_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but the augmenter's."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("augmenter.")]

    def encode(
        self, seq: Tensor, x: Tensor | None = None, positions: Tensor | None = None, newest: bool = False
    ) -> Tensor:
        """Return hidden states [B, T, D]; by default at the last `max_len` positions of the table."""
        return super().encode(seq, x, self.main_positions(seq > 0) if positions is None else positions, newest)

    def main_positions(self, mask: Tensor) -> Tensor:
        """Positions of histories without extra slots, mask [B, T]: the oldest item has position k where positions count from the start.

        With candidates beside the items it has position 0.
        """
        shift = self.candidates.count if self.backbone.count_from == "start" and not self.beside else 0
        return self.backbone.positions(mask) + shift

    def view_positions(self, extended: views.Extended, occupied: Tensor) -> Tensor:
        """Positions of both views of extended rows, `occupied` [2R, N]: a slot of the history has the same one as in the main task.

        With candidates beside the items the views are compact, and an item's position is its rank.
        """
        if self.beside:
            return self.backbone.positions(occupied)
        return self.backbone.positions(extended.target).repeat(VIEWS, 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the recommender's loss on views of the augmenter as it is; `optimize` uses the same views for both updates."""
        extended = self.extended(batch)
        if extended is None:
            return super().losses(batch)
        with torch.no_grad():
            hard = self.hard_views(extended, self.effects(extended))
        return self.recommender_losses(batch, extended, hard)

    def optimize(self, batch: Batch, update: Callable[..., None]) -> dict[str, Tensor]:
        """Update the augmenter, then the recommender, on the same hard views."""
        extended = self.extended(batch) if self.augmenting else None
        if extended is None:
            if self.augmenting and not self.augmenter_frozen:
                # other processes may have rows to augment: all must join this update, which averages gradients
                update(sum(parameter.sum() for parameter in self.augmenter.parameters()) * 0, "augmenter")
            logs = Method.losses(self, batch)
            update(logs["loss"], "recommender")
            return logs
        with torch.set_grad_enabled(not self.augmenter_frozen):
            made = self.effects(extended)
        hard = self.hard_views(extended, made)
        logs = self.matrix_logs(extended, hard)
        if not self.augmenter_frozen:
            phi = list(self.augmenter.parameters())
            with frozen(self.recommender_parameters(), self.backbone), gradient_norm(phi) as norm:
                terms = self.augmenter_losses(extended, made, hard)
                update(terms["augmenter"], "augmenter")
                logs |= {**terms, "augmenter_gradient": norm()}
        with gradient_norm(self.recommender_parameters()) as norm:
            terms = self.recommender_losses(batch, extended, hard)
            update(terms["loss"], "recommender")
            return {**terms, "gradient": norm(), **logs}

    def extended(self, batch: Batch) -> views.Extended | None:
        """Return the histories to augment with their candidates, or None if there are fewer than two."""
        rows = views.rows_to_augment(batch, self.shortest)
        if len(rows) < 2:
            return None
        return self.place(batch.seq[rows], self.candidates(batch, rows))

    @torch.no_grad()
    def keep_probability(self, batch: Batch, draws: int = 16) -> Tensor:
        """Return the fraction of views, in `draws` pairs drawn as in training, that keep each item, 0 on padding, [B, T].

        It is 1 in rows that are not augmented.
        """
        kept, extended = (batch.seq > 0).float(), self.extended(batch)
        if extended is None:
            return kept
        rows = views.rows_to_augment(batch, self.shortest)
        kept[rows] *= self.placed(extended, draws)[:, :, self.own].sum(1)
        return kept

    @torch.no_grad()
    def position_profile(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean matrix of each history, target slot by source slot, and how often each slot is dropped or filled."""
        extended = self.extended(batch)
        return {} if extended is None else views.fractions_by_slot(extended, self.placed(extended, draws=8), self.own)

    def placed(self, extended: views.Extended, draws: int) -> Tensor:
        """Return the fraction of views, in `draws` pairs as in training, with the item of a source slot in a target slot, [R, N, N]."""
        training, width = self.augmenter.training, extended.items.shape[1]
        count = self.items.weight.new_zeros(*extended.items.shape, width + 1)  # the last source: no item
        self.augmenter.train()
        for _ in range(draws):
            for source in self.hard_views(extended, self.effects(extended)).source.unbind(1):
                index = source.where(source >= 0, width)[..., None]
                count.scatter_add_(2, index, torch.ones_like(index, dtype=count.dtype))
        self.augmenter.train(training)
        return count[..., :width] / (VIEWS * draws)

    def effects(self, extended: views.Extended) -> Effects:
        """Draw the matrices of the histories; returns what they do."""
        x, seen = self.items(extended.items).detach(), self.seen(extended)
        shares = getattr(self.augmenter, "shares", None)
        share = None if shares is None else shares(seen, extended.original)
        return matrices.all_effects(self.augmenter, seen, x, extended, share, self.rules)

    @torch.no_grad()
    def seen(self, extended: views.Extended) -> Tensor:
        """Return what the augmenter sees of each slot, [R, N, D]: the embedding of its item or, normalised, the history's state there."""
        x = self.items(extended.items)
        if self.augmenter_sees == "embeddings":
            return x
        history = (extended.items * extended.original)[:, self.own]
        with frozen([], self.backbone):
            x[:, self.own] = torch.where(history[..., None] > 0, self.encode(history), x[:, self.own])
        return F.layer_norm(x, x.shape[-1:])

    def hard_views(self, extended: views.Extended, made: Effects) -> views.HardViews:
        """Return the views of the hard matrices, with this method's fallback and compaction."""
        return views.hard_views(extended, made.source, self.least, self.compact or self.beside)

    def augmenter_losses(self, extended: views.Extended, made: Effects, hard: views.HardViews) -> dict[str, Tensor]:
        """Return the augmenter's loss and its terms; the views have the gradient of the soft matrices."""
        original = self.items(extended.items * extended.original).detach()[:, None]
        x = hard.arrange(torch.where(hard.fallback[..., None, None], original, made.view))
        occupied = views.stacked(hard.arrange(hard.source >= 0))
        bias = views.stacked(matrices.log_occupancy(made, hard)) if self.occupancy else None
        positions = self.view_positions(extended, occupied)
        hidden = self.backbone(views.stacked(x), occupied, positions, key_bias=bias)
        contrast = self.contrast(hidden, occupied, views.rows_of(occupied))[0].mean()
        diversity = (self.diversity_margin - made.distance).relu().mean()
        multiplier = getattr(self.augmenter, "multiplier", None)
        if multiplier is None:
            weighted = self.diversity_weight * diversity
        else:
            weighted = multiplier(made.distance, self.diversity_margin)
        invariance = (-made.margin).relu().mean()
        return {
            "augmenter": self.info_weight * contrast + weighted + self.invariance_weight * invariance,
            "diversity": diversity,
            "invariance": invariance,
            "distance": made.distance.mean(),
            "soft_distance": made.soft_distance.mean(),
            "ndcg_margin": made.margin.mean(),
        }

    def recommender_losses(self, batch: Batch, extended: views.Extended, hard: views.HardViews) -> dict[str, Tensor]:
        """Return the recommender's loss and its terms; one encoder call for the histories and both views."""
        rows, items = len(batch.seq), views.stacked(hard.items(extended))
        more = items.shape[1] - batch.seq.shape[1]
        clean = F.pad(batch.seq, (more, 0))
        positions = torch.cat([self.main_positions(clean > 0), self.view_positions(extended, items > 0)])
        hidden = self.encode(torch.cat([clean, items]), positions=positions)
        next_item = self.next_item_loss(hidden[:rows, more:], batch)
        return weighted_sum(next_item, *self.contrast(hidden[rows:], items > 0, views.rows_of(items)), self.weight)

    @torch.no_grad()
    def matrix_logs(self, extended: views.Extended, hard: views.HardViews) -> dict[str, Tensor]:
        """Return fractions that describe the hard views, and count the views that differ from their history."""
        differ = (hard.source != views.identity_source(extended)).any(2)
        self.changed += torch.stack([differ.sum(), differ.new_tensor(differ.numel(), dtype=torch.long)])
        return {
            "changed": differ.float().mean(),
            "fallback": hard.fallback.float().mean(),
            **views.fractions(extended, hard.drawn),
        }
