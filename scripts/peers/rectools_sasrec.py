"""Time RecTools' SASRec in its own virtual environment: rectools_sasrec.py SETTINGS.json RESULT.json.

Everything is RecTools' default but what SETTINGS names. Its feed-forward branch is as wide as the embeddings, and it
has one dropout rate; its evaluation is the top 10 of every user, history left out, metrics not counted.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LOSSES = {"cross_entropy": "softmax", "bce": "BCE", "gbce": "gBCE", "sampled_softmax": "sampled_softmax"}


class Clock(Callback):
    """Seconds of every training epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_start(self, trainer, module):
        """Start the clock."""
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer, module):
        """Stop it."""
        self.epochs.append(time.monotonic() - self.began)


def main(settings: dict) -> dict:
    if settings["loss"] not in LOSSES:
        sys.exit(f"RecTools' SASRec has no loss '{settings['loss']}'; it has {', '.join(LOSSES)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(settings["threads"])
    interactions = pd.read_csv(Path(settings["folder"], settings["dataset"], f"{settings['dataset']}.inter"), sep="\t")
    interactions.columns = [Columns.User, Columns.Item, Columns.Datetime]
    interactions[Columns.Datetime] = pd.to_datetime(interactions[Columns.Datetime], unit="s")
    interactions[Columns.Weight] = 1
    from_end = interactions.groupby(Columns.User).cumcount(ascending=False)
    train = interactions[from_end >= 2]
    clock = Clock()
    model = SASRecModel(**options(settings), get_trainer_func=lambda: make_trainer(settings["epochs"], clock))
    model.fit(Dataset.construct(train))
    clock = model.fit_trainer.callbacks[0]  # fit works on a copy of the trainer

    asked = Dataset.construct(interactions[from_end >= 1])
    users = train[Columns.User].unique()
    evaluations = []
    for _ in range(settings["evaluations"]):
        began = time.monotonic()
        model.recommend(users, asked, k=10, filter_viewed=True)
        evaluations.append(time.monotonic() - began)
    lengths = train.groupby(Columns.User).size() - 1
    return {
        "epochs": clock.epochs,
        "targets": int(lengths.clip(upper=settings["max_len"]).sum()),
        "evaluations": evaluations,
        "users": len(users),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }


def options(settings: dict) -> dict:
    return {
        "n_blocks": settings["layers"],
        "n_heads": settings["heads"],
        "n_factors": settings["dim"],
        "dropout_rate": settings["dropout"],
        "session_max_len": settings["max_len"],
        "loss": LOSSES[settings["loss"]],
        "n_negatives": settings["negatives"],
        "gbce_t": settings["calibration"],
        "lr": settings["lr"],
        "batch_size": settings["batch_size"],
        "recommend_torch_device": "cpu",
    }


def make_trainer(epochs: int, clock: Clock) -> Trainer:
    """RecTools' own trainer, with a clock."""
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return Trainer(max_epochs=epochs, min_epochs=epochs, devices=1, accelerator="cpu", callbacks=[clock], **quiet)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
