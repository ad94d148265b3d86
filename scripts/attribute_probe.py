"""Where an attribute of the items sits in a trained model: `python scripts/attribute_probe.py outputs/... [...]`.

A linear map is fitted by least squares to half of the users' newest states, or of the item embeddings, and says for the
other half which value of the attribute is the most frequent of the user's history, or the item's own. A line per side of
the model (Irl4Rec: t and s), with the share of the most frequent value as chance. Attributes of one value an item alone.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from seqrec.cli import Parser, guarded


def accuracy(vectors: Tensor, label: Tensor) -> tuple[float, float]:
    """Return the accuracy of the linear map, and chance, for vectors [N, D] with labels [N] from 0."""
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(1))
    vectors, label = torch.cat([vectors, torch.ones(len(vectors), 1)], 1)[order], label[order]
    half = len(vectors) // 2
    weights = torch.linalg.lstsq(vectors[:half], torch.nn.functional.one_hot(label[:half]).float()).solution
    right = (vectors[half:] @ weights).argmax(1) == label[half:]
    return right.float().mean().item(), (label[half:] == label[:half].mode().values).float().mean().item()


@torch.no_grad()
def probes(side: torch.nn.Module, histories: list[Tensor], value: Tensor) -> tuple[tuple[float, float], ...]:
    """Return accuracy and chance of users and of items, for a method and the values [V + 1] of its items, 0 = none."""
    count = torch.cat([torch.nn.functional.one_hot(value[seq], int(value.max()) + 1).sum(1) for seq in histories])
    newest = torch.cat([side.encode(seq)[:, -1] for seq in histories])
    own = value > 0
    return accuracy(newest, count[:, 1:].argmax(1)), accuracy(side.items.weight[own], value[own] - 1)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    from seqrec.build import load
    from seqrec.data.loader import EvalLoader
    from seqrec.utils.errors import UserError

    for run in arguments.runs:
        experiment = load(run, data_dir=arguments.data_dir)
        method = experiment.method.eval().cpu()
        kinds = {kind: table[:, 0] for kind, table in experiment.dataset.attributes.items() if table.shape[1] == 1}
        if not kinds or not method.trained:
            raise UserError(f"{run}: a trained method on data with an attribute of one value an item is needed")
        histories = [batch.seq for _, batch in EvalLoader(experiment.split.valid, 256, method.max_len)]
        print(run)
        for kind, values in kinds.items():
            for name, side in (("t", method), ("s", getattr(method, "confounder", None))):
                if side is not None:
                    users, items = probes(side, histories, torch.from_numpy(values).long())
                    print(f"  {kind}, {name}: users {users[0]:.2f} (chance {users[1]:.2f}), ", end="")
                    print(f"items {items[0]:.2f} (chance {items[1]:.2f})")


if __name__ == "__main__":
    sys.exit(guarded(main))
