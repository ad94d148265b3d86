"""Metrics of short runs, kept in golden.json: a change of results must be seen and wanted.

`python tests/test_golden.py` writes them anew after a wanted change.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from job_setting import configure

sys.path.insert(0, str(Path(__file__).parents[1]))

from seqrec.commands import train

GOLDEN = Path(__file__).with_name("golden.json")
SMALL = ["dataset.users=300", "dataset.items=150", "dataset.clusters=10", "dim=16", "trainer.max_epochs=3"]
RUNS = {
    "sasrec cross_entropy": [],
    "sasrec bce": ["loss=bce"],
    "gru4rec sampled_softmax": ["backbone=gru4rec", "loss=sampled_softmax", "loss.negatives=64"],
    "fmlprec bpr": ["backbone=fmlprec", "loss=bpr", "max_len=20"],
    "temporal gbce": ["split=temporal", "loss=gbce", "loss.negatives=16"],
    "markov": ["method=markov", "method.history_decay=auto"],
    "itemknn": ["method=itemknn"],
    "popularity": ["method=popularity"],
    "noise insert": ["noise=insert", "noise.ratio=.3"],
    "noise mixed": ["method=markov", "noise=mixed", "noise.ratio=.3"],
}


def run(name: str, folder: Path) -> dict:
    small = [key for key in SMALL if key.startswith("dataset")] if "method=" in str(RUNS[name]) else SMALL
    train.job(configure(*small, "trainer.threads=1", "trainer.progress=false", *RUNS[name]), folder)
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_metrics_are_what_they_were(name, tmp_path):
    metrics, golden = run(name, tmp_path / "run"), json.loads(GOLDEN.read_text())[name]
    for part in ("valid", "test"):
        # processors round differently: a rank may move by a place, a wrong formula moves more
        assert metrics[part] == pytest.approx(golden[part], abs=0.007)


def update() -> None:
    """Write golden.json anew."""
    with tempfile.TemporaryDirectory() as folder:
        values = {name: run(name, Path(folder) / str(number)) for number, name in enumerate(RUNS)}
    rounded = {
        name: {part: {k: round(v, 4) for k, v in value[part].items()} for part in ("valid", "test")}
        for name, value in values.items()
    }
    GOLDEN.write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    update()
