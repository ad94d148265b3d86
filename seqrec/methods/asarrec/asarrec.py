"""AsarRec: learned augmentation matrices for contrastive learning (arXiv 2512.14047); reconstruction: see docs/methods/asarrec.md."""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.losses.contrastive import NTXent, weighted_sum
from seqrec.methods.asarrec import objectives, views
from seqrec.methods.asarrec.augmentation_encoder import VIEWS, AugmentationEncoder
from seqrec.methods.asarrec.candidates import SOURCES, Candidates
from seqrec.methods.asarrec.semi_sinkhorn import discretise, semi_sinkhorn, straight_through
from seqrec.methods.base import Method, ModelSpec, ParamGroup
from seqrec.utils.checkpoint import take_over
from seqrec.utils.errors import UserError, one_of, within
from seqrec.utils.gradients import frozen, gradient_norm

log = logging.getLogger("seqrec")

INFO_SIGN = {"adversarial": -1.0, "cooperative": 1.0}
ALIVE = (0.1, 0.6)  # share of the views that differ from their history, outside of which a run warns


class AsarRec(Method):
    """A backbone that is contrasted with two views of each history, made by learned transformation matrices.

    Reconstruction: see docs/methods/asarrec.md, which also explains every argument. After a warm-up on the next-item loss
    alone each batch makes one step of the augmenter phi (informativeness, diversity, semantic invariance; the
    recommender frozen and in eval mode) and one of the recommender theta (next-item loss and contrastive loss on the
    same hard views). Raises UserError on a value that is none of those allowed.
    """

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
        diversity_weight: float,
        diversity_margin: float,
        invariance_weight: float,
        invariance: str,
        budget: float,
        warmup_epochs: int,
        clip: float | None,
        augmenter_optimizer: Callable[..., torch.optim.Optimizer],
        augmenter_clip: float | None,
        augmenter_from: str | None,
        augmenter_frozen: bool,
    ):
        for key, value, allowed in (
            ("candidate_source", candidate_source, SOURCES),
            ("info_mode", info_mode, INFO_SIGN),
            ("invariance", invariance, objectives.INVARIANCE),
        ):
            one_of(f"method.{key}", value, allowed)
        for key, value, *bounds in (
            ("candidates", candidates, 0),
            ("candidate_recent", candidate_recent, 1),
            ("gumbel", gumbel, 0),
            ("iterations", iterations, 1),
            ("power", power, 1),
            ("threshold", threshold, 0, 1),
            ("shortest", shortest, 1),
            ("least", least, 0, 1),
            ("info_weight", info_weight, 0),
            ("diversity_weight", diversity_weight, 0),
            ("diversity_margin", diversity_margin, 0),
            ("invariance_weight", invariance_weight, 0),
            ("budget", budget, 0, 1),
            ("warmup_epochs", warmup_epochs, 0),
        ):
            within(f"method.{key}", value, *bounds)
        if not 0 < stay < 1:
            raise UserError(f"method.stay={stay}: a probability between 0 and 1 is needed")
        super().__init__(
            replace(spec, backbone=lambda dim, max_len: spec.backbone(dim=dim, max_len=max_len + candidates))
        )
        self.candidates = Candidates(spec.num_items, candidates, candidate_source, min(candidate_recent, spec.max_len))
        self.augmenter = AugmentationEncoder(spec.dim, spec.max_len + candidates, stay, gumbel)
        self.iterations, self.power, self.threshold = iterations, power, threshold
        self.shortest, self.least, self.compact = shortest, least, compact
        self.weight, self.contrast = weight, NTXent(vector, cosine, temperature)
        self.info_weight = info_weight * INFO_SIGN[info_mode]
        self.diversity_weight, self.diversity_margin = diversity_weight, diversity_margin
        self.invariance_weight, self.invariance, self.budget = invariance_weight, invariance, budget
        self.warmup_epochs, self.patience_from = warmup_epochs, warmup_epochs
        self.clip, self.augmenter_clip, self.augmenter_optimizer = clip, augmenter_clip, augmenter_optimizer
        self.augmenter_from, self.augmenter_frozen = augmenter_from, augmenter_frozen
        self.augmenter.requires_grad_(not augmenter_frozen)
        self.augmenting = False
        self.register_buffer("changed", torch.zeros(2, dtype=torch.long))  # views that differ, and all, this epoch
        self.register_buffer("warned", torch.zeros((), dtype=torch.bool))

    def setup(self, train: Sequences) -> None:
        """Take the items to insert from the training part."""
        self.candidates.setup(train)

    def on_stage(self, stage: int) -> None:
        """Take the augmenter over from another run, if that is wanted; raises UserError if it is not there or does not fit."""
        if self.augmenter_from is not None:
            advice = "give an AsarRec run with the same dim, max_len and method.candidates"
            take_over(self, ("augmenter.",), self.augmenter_from, "method.augmenter_from", advice)

    def on_epoch(self, epoch: int) -> None:
        """End the warm-up when it is time; warn if the views of the last epoch were inert or wild."""
        self.augmenting = epoch >= self.warmup_epochs
        differ, total = self.changed.tolist()
        if total:
            share = differ / total
            outside = not ALIVE[0] <= share <= ALIVE[1]
            if outside and not self.warned:
                log.warning(
                    "warning: %.1f %% of the views differ from their history (epoch %d), healthy are %.0f-%.0f %%; %s",
                    *(100 * share, epoch, 100 * ALIVE[0], 100 * ALIVE[1]),
                    "lower method.stay or raise method.gumbel or method.info_weight"
                    if share < ALIVE[0]
                    else "raise method.stay or lower method.diversity_weight",
                )
            self.warned.fill_(outside)
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
        """Return hidden states [B, T, D]; by default at the last `max_len` rows of the position table."""
        return super().encode(seq, x, self.main_positions(seq > 0) if positions is None else positions, newest)

    def main_positions(self, mask: Tensor) -> Tensor:
        """Positions of histories without extra slots, mask [B, T]: the oldest item counts from row k where counting starts at it."""
        shift = self.candidates.count if self.backbone.count_from == "start" else 0
        return self.backbone.positions(mask) + shift

    def view_positions(self, extended: views.Extended) -> Tensor:
        """Positions of both views of extended rows, [2R, N]: a slot of the history has the one that it has in the main task."""
        width = extended.items.shape[1]
        slot = torch.arange(width, device=extended.items.device).expand_as(extended.items)
        if self.backbone.count_from == "start":
            first = width - extended.target.sum(1, keepdim=True)
            return (slot - first).clamp(min=0).repeat(VIEWS, 1)
        return (slot + (self.backbone.max_len - width)).repeat(VIEWS, 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the recommender's loss, with views of the augmenter as it is; a step takes it of the views that both players share."""
        extended = self.extended(batch)
        if extended is None:
            return super().losses(batch)
        with torch.no_grad():
            source = self.sources(extended, self.matrices(extended))
        return self.recommender_losses(batch, extended, self.hard_views(extended, source))

    def optimize(self, batch: Batch, update: Callable[..., None]) -> dict[str, Tensor]:
        """Make one step of the augmenter and one of the recommender, on the same hard views."""
        extended = self.extended(batch) if self.augmenting else None
        if extended is None:
            if self.augmenting and not self.augmenter_frozen:
                # other processes may have rows and make this step, which averages gradients over all of them
                update(sum(parameter.sum() for parameter in self.augmenter.parameters()) * 0, "augmenter")
            logs = Method.losses(self, batch)
            update(logs["loss"], "recommender")
            return logs
        with torch.set_grad_enabled(not self.augmenter_frozen):
            made = self.matrices(extended)
        source = self.sources(extended, made)
        hard = self.hard_views(extended, source)
        logs = self.matrix_logs(extended, source, hard)
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
        return views.extend(batch.seq[rows], self.candidates(batch, rows)) if len(rows) > 1 else None

    @torch.no_grad()
    def keep_probability(self, batch: Batch, draws: int = 16) -> Tensor:
        """Return the share of `draws` pairs of views that keep each item, 0 on padding, [B, T]; for diagnostics.

        The views are drawn as in training. It is 1 in rows that are not augmented.
        """
        kept, extended = (batch.seq > 0).float(), self.extended(batch)
        if extended is None:
            return kept
        rows = views.rows_to_augment(batch, self.shortest)
        kept[rows] *= self.placed(extended, draws)[:, :, self.candidates.count :].sum(1)
        return kept

    @torch.no_grad()
    def portrait(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean of each history's matrices, target slot by source slot, and shares of the views by slot, to be drawn."""
        extended, first = self.extended(batch), self.candidates.count
        return {} if extended is None else views.shares_by_slot(extended, self.placed(extended, draws=8), first)

    def placed(self, extended: views.Extended, draws: int) -> Tensor:
        """Return the share of `draws` pairs of views, drawn as in training, that have in a slot the item of a source slot, [R, N, N]."""
        training, width = self.augmenter.training, extended.items.shape[1]
        count = self.items.weight.new_zeros(*extended.items.shape, width + 1)  # the last source is none
        self.augmenter.train()
        for _ in range(draws):
            for source in self.hard_views(extended, self.sources(extended, self.matrices(extended))).source.unbind(1):
                place = source.where(source >= 0, width)[..., None]
                count.scatter_add_(2, place, torch.ones_like(place, dtype=count.dtype))
        self.augmenter.train(training)
        return count[..., :width] / (VIEWS * draws)

    def matrices(self, extended: views.Extended) -> list[tuple[views.Extended, Tensor, Tensor]]:
        """Return, group by group, rows of like length with their soft and hard matrices [G, 2, N, N]."""
        made = []
        for rows in views.groups(extended.original.sum(1), self.candidates.count):
            part = extended.cut(rows)
            with torch.autocast(part.items.device.type, enabled=False):
                x = self.items(part.items).detach().float()
                probability = self.augmenter(x, part.items > 0, part.original, part.target)
                soft = semi_sinkhorn(probability, self.iterations, self.power)
            made.append((part, soft, discretise(soft, self.threshold)))
        return made

    @staticmethod
    def sources(extended: views.Extended, made) -> Tensor:
        """Return the source slot of every slot of the views of all groups, [R, 2, N]."""
        return torch.cat([views.sources(hard, extended.items.shape[1]) for _, _, hard in made])

    def hard_views(self, extended: views.Extended, source: Tensor) -> views.HardViews:
        """Return the views that source slots make, with this method's fallback and compaction."""
        return views.hard_views(extended, source, self.least, self.compact)

    def augmenter_losses(self, extended, made, hard: views.HardViews) -> dict[str, Tensor]:
        """Return the augmenter's loss and its terms; the views carry the gradient of the soft matrices."""
        width = extended.items.shape[1]
        soft_distance, hard_distance, margin, x = [], [], [], []
        for part, soft, matrix in made:
            through = straight_through(matrix, soft)
            soft_distance.append(objectives.distance(soft, part.original))
            hard_distance.append(objectives.distance(matrix, part.original))
            ndcg = objectives.sequence_ndcg(through, part.original, self.invariance)
            margin.append(ndcg - objectives.worst_ndcg(part.original, self.invariance, self.budget)[:, None])
            view = through.transpose(-1, -2) @ self.items(part.items).detach()[:, None]
            x.append(F.pad(view, (0, 0, width - view.shape[2], 0)))
        soft_distance, margin, x = torch.cat(soft_distance), torch.cat(margin), torch.cat(x)
        between = straight_through(torch.cat(hard_distance), soft_distance)
        original = self.items(extended.items * extended.original).detach()[:, None]
        x = hard.arrange(torch.where(hard.fallback[..., None, None], original, x))
        occupied = views.stacked(hard.arrange(hard.source >= 0))
        hidden = self.encode(occupied.long(), views.stacked(x), self.view_positions(extended))
        contrast = self.contrast(hidden, occupied, views.rows_of(occupied))[0].mean()
        diversity = (self.diversity_margin - between).relu().mean()
        invariance = (-margin).relu().mean()
        total = self.info_weight * contrast + self.diversity_weight * diversity + self.invariance_weight * invariance
        return {
            "augmenter": total,
            "diversity": diversity,
            "invariance": invariance,
            "distance": between.mean(),
            "soft_distance": soft_distance.mean(),
            "ndcg_margin": margin.mean(),
        }

    def recommender_losses(self, batch: Batch, extended, hard: views.HardViews) -> dict[str, Tensor]:
        """Return the recommender's loss and its terms; one pass encodes the histories and both views."""
        count, rows = self.candidates.count, len(batch.seq)
        clean, items = F.pad(batch.seq, (count, 0)), views.stacked(hard.items(extended))
        positions = torch.cat([self.main_positions(clean > 0), self.view_positions(extended)])
        hidden = self.encode(torch.cat([clean, items]), positions=positions)
        next_item = self.next_item_loss(hidden[:rows, count:], batch)
        return weighted_sum(next_item, *self.contrast(hidden[rows:], items > 0, views.rows_of(items)), self.weight)

    @torch.no_grad()
    def matrix_logs(self, extended, source: Tensor, hard: views.HardViews) -> dict[str, Tensor]:
        """Return shares of what the hard views do, and count those that do anything."""
        differ = (hard.source != views.identity_source(extended)).any(2)
        self.changed += torch.stack([differ.sum(), differ.new_tensor(differ.numel(), dtype=torch.long)])
        return {
            "changed": differ.float().mean(),
            "fallback": hard.fallback.float().mean(),
            **views.shares(extended, source),
        }
