"""What the augmenter of AsarRec feels and does: `python scripts/augmenter_probe.py outputs/... [...]`, a line for each run.

The gradient of the contrastive loss L_NCE is compared with its true change over single drops from views that are the histories themselves,
the newest item excepted: Spearman's correlation, and the share of drops whose sign is right. Of drawn views: the fractions of items
dropped, moved, inserted (beside or left of the history) and substituted (in the slot of an item), and the AUC of dropping labelled noise.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqrec.cli import Parser, guarded

USERS, DROPS = 64, 256


def drops(method, extended, count: int = DROPS) -> tuple[Tensor, Tensor]:
    """Return the predicted and the true change of L_NCE for `count` drops of one item from one view, [count] each."""
    from seqrec.methods.asarrec import views
    from seqrec.methods.asarrec.matrices import Effects

    x = method.items(extended.items).detach()
    source = views.identity_source(extended).repeat(1, 2, 1)
    nothing = x.new_zeros(len(x))

    def contrast(source: Tensor, view: Tensor, held: Tensor) -> Tensor:
        made = Effects(source, nothing, nothing, nothing, view, held)
        rows = views.hard_views(extended, source, 0.0, method.compact or method.beside)
        return method.augmenter_losses(extended, made, rows)["augmenter"] / method.info_weight

    held = (source >= 0).float().requires_grad_()
    view = (x[:, None] * (source >= 0)[..., None]).requires_grad_()
    base = contrast(source, view, held)
    of_view, of_held = torch.autograd.grad(base, (view, held), allow_unused=True)
    slope = (of_view * x[:, None]).sum(-1) + (0 if of_held is None else of_held)
    droppable = extended.original & (extended.original.long().flip(1).cumsum(1).flip(1) > 1)
    places = droppable[:, None].expand_as(source).nonzero()
    chosen = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(1))[:count]]
    true = []
    with torch.no_grad():
        for place in map(tuple, chosen):
            changed, less, fewer = source.clone(), view.clone(), held.clone()
            changed[place], less[place], fewer[place] = -1, 0, 0
            true.append(contrast(changed, less, fewer) - base)
    return -slope[tuple(chosen.T)].detach(), torch.stack(true)


def operators(extended, source: Tensor) -> dict[str, float]:
    """Return fractions of the items of the histories; `source` [R, 2, N] are those of drawn views."""
    from seqrec.methods.asarrec import views

    told = {name: value.item() for name, value in views.fractions(extended, source).items()}
    foreign = (source >= 0) & ~views.from_history(extended, source)
    told["substituted"] = (foreign & extended.original[:, None]).sum().item() / (2 * extended.original.sum().item())
    told["inserted"] -= told["substituted"]
    return told


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    from scipy.stats import spearmanr

    from seqrec.build import load
    from seqrec.data.loader import TrainLoader
    from seqrec.evaluation.noise_detection import known_noise
    from seqrec.methods.asarrec import AsarRec
    from seqrec.utils.errors import UserError
    from seqrec.utils.gradients import frozen

    for run in arguments.runs:
        experiment = load(run, data_dir=arguments.data_dir)
        method, split = experiment.method.cpu(), experiment.split
        if not isinstance(method, AsarRec) or not method.info_weight:
            raise UserError(f"{run}: an AsarRec with informativeness is needed")
        torch.manual_seed(1)
        rows = next(TrainLoader(split.train, USERS, method.max_len, seed=1).epoch(0))
        extended = method.extended(rows)
        with frozen(method.recommender_parameters(), method.backbone):
            predicted, true = drops(method, extended)
        method.augmenter.train()
        with torch.no_grad():
            told = operators(extended, method.effects(extended).source)
        told |= {
            "Spearman": spearmanr(predicted, true).statistic,
            "sign": (predicted.sign() == true.sign()).float().mean().item(),
        }
        if split.noise is not None and np.any(split.noise):
            told["AUC"] = known_noise(method.eval(), split.train, split.noise, method.max_len)["method"]["AUC"]
        print(run, *(f"{name} {value:.3f}" for name, value in told.items()), sep="  ")


if __name__ == "__main__":
    sys.exit(guarded(main))
