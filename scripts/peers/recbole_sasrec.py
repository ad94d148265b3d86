"""Time RecBole's SASRec in its own virtual environment: recbole_sasrec.py SETTINGS.json RESULT.json.

Everything is RecBole's default but what SETTINGS names: one training row per prefix, and an evaluation that does not
mask the history. Files that RecBole leaves go to the current directory.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_logger, init_seed

LOSSES = {"cross_entropy": "CE", "bpr": "BPR"}


def main(settings: dict) -> dict:
    if settings["loss"] not in LOSSES:
        sys.exit(f"RecBole's SASRec has no loss '{settings['loss']}'; it has {' and '.join(LOSSES)}")
    torch.set_num_threads(settings["threads"])
    config = Config(model="SASRec", dataset=settings["dataset"], config_dict=options(settings))
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    train, _, test = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)

    epochs, evaluations = [], []
    for epoch in range(settings["epochs"]):
        began = time.monotonic()
        trainer._train_epoch(train, epoch)  # fit() would validate and write checkpoints in between
        epochs.append(time.monotonic() - began)
    for _ in range(settings["evaluations"]):
        began = time.monotonic()
        trainer.evaluate(test, load_best_model=False)
        evaluations.append(time.monotonic() - began)
    return {
        "epochs": epochs,
        "targets": len(train._dataset),
        "evaluations": evaluations,
        "users": len(test._dataset),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }


def options(settings: dict) -> dict:
    negatives = {"train_neg_sample_args": None} if settings["loss"] == "cross_entropy" else {}
    return {
        **negatives,
        "data_path": settings["folder"],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["Hit", "NDCG"],
        "valid_metric": "NDCG@10",
        "topk": [10],
        "MAX_ITEM_LIST_LENGTH": settings["max_len"],
        "hidden_size": settings["dim"],
        "inner_size": settings["dim"] * settings["feedforward"],
        "n_layers": settings["layers"],
        "n_heads": settings["heads"],
        "hidden_dropout_prob": settings["dropout"],
        "attn_dropout_prob": settings["attention_dropout"],
        "loss_type": LOSSES[settings["loss"]],
        "train_batch_size": settings["batch_size"],
        "learning_rate": settings["lr"],
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
