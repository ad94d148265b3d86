"""Draw the augmentation matrices that an AsarRec run learned: `python scripts/draw_matrices.py outputs/... USER [USER ...]`.

One row per user, one matrix per view: the soft matrix in grey, a dot where the hard one has a 1. Rows are sources, columns
are targets, oldest item first; the lines part the candidates from the history. No noise is added. Needs matplotlib.
"""

import io
import sys
from pathlib import Path

import numpy as np

from seqrec.cli import Parser, file_to_write, guarded


def matrices(method, train, user: int):
    """Return item ids [N], soft and hard matrices [2, N, N] of a user's training history, the newest target left out."""
    import torch

    from seqrec.batch import Batch
    from seqrec.methods.asarrec.matrices import draw

    index = np.arange(max(train.start[user], train.stop[user] - 1 - method.max_len), train.stop[user] - 1)[None]
    seq, row = torch.from_numpy(train.items[index].astype(np.int64)), torch.tensor([user])
    batch = Batch(row, seq, torch.zeros_like(seq), torch.from_numpy(index)).to(method.items.weight.device)
    extended = method.place(batch.seq, method.candidates(batch, torch.zeros_like(batch.user)))
    with torch.no_grad():
        soft, hard = draw(method.augmenter, method.seen(extended), extended, method.rules)
    return extended.items[0].tolist(), soft[0].cpu().numpy(), hard[0].cpu().numpy()


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("users", nargs="+", help="user ids as they stand in the raw data")
    parser.add_argument("--output", type=file_to_write, default=Path("matrices.png"), help="picture (png)")
    parser.add_argument("--data-dir", help="folder of the raw data, if it is no longer where the run found it")
    arguments = parser.parse_args()

    from seqrec.build import load
    from seqrec.methods.asarrec.asarrec import AsarRec
    from seqrec.report.figures import plt  # says so where matplotlib is missing
    from seqrec.utils.errors import UserError
    from seqrec.utils.files import write_atomically

    experiment = load(arguments.run, data_dir=arguments.data_dir)
    method, train, dataset = experiment.method.eval(), experiment.split.train, experiment.dataset
    if not isinstance(method, AsarRec):
        raise UserError(
            f"{arguments.run} is a run of method={experiment.config.method.name}; only asarrec has matrices"
        )
    rows = dataset.users_of(arguments.users)
    figure, axes = plt.subplots(len(arguments.users), 2, figsize=(10, 5 * len(arguments.users)), squeeze=False)
    for axes_of_user, user, row in zip(axes, arguments.users, rows, strict=True):
        if train.lengths[row] < 2:
            raise UserError(f"user {user} has fewer than two training items, so there is no history to augment")
        items, soft, hard = matrices(method, train, row)
        labels = [str(dataset.item_ids[item]) if item else "-" for item in items]
        for view, axis in enumerate(axes_of_user):
            axis.imshow(soft[view], cmap="Greys", vmin=0, vmax=1)
            source, target = np.nonzero(hard[view])
            axis.plot(target, source, "r.", markersize=6)
            for line in () if method.beside else (axis.axhline, axis.axvline):
                line(method.candidates.count - 0.5, color="tab:blue", linewidth=1)
            axis.set_xticks(range(len(items)), labels, rotation=90, fontsize=6)
            axis.set_yticks(range(len(items)), labels, fontsize=6)
            axis.set(title=f"user {user}, view {view + 1}", xlabel="target slot (item of the history)", ylabel="source")
    figure.tight_layout()
    stream = io.BytesIO()
    figure.savefig(stream, dpi=150, format="png")
    write_atomically(arguments.output, stream.getvalue())
    print(arguments.output)


if __name__ == "__main__":
    sys.exit(guarded(main))
