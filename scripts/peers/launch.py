"""Other libraries' SASRec on the same data: a virtual environment for each, a file they can read, a process to time."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from seqrec.build import Experiment
from seqrec.commands.timing import EVALUATIONS, Timing
from seqrec.data.cache import cache_folder
from seqrec.data.interactions import write_interactions
from seqrec.utils.files import write_atomically

# What pip is asked for, call by call. RecBole 1.2.1 leaves out two of its requirements, and it needs numpy below 2.
REQUIREMENTS = {
    "recbole": (
        ["recbole==1.2.1"],
        ["numpy==1.26.4", "pandas==2.2.3", "scipy==1.11.4", "kmeans-pytorch", "psutil"],
    ),
    "rectools": (["rectools[torch]==0.19.0"],),
}
DATA = "data"


class Failed(Exception):
    """A peer could not be installed or run; says why."""


def time_peer(name: str, experiment: Experiment, epochs: int, venvs: Path | None) -> Timing:
    """Time `epochs` epochs and a few full rankings of a peer, configured like the experiment; raises Failed."""
    python = environment(name, (venvs or cache_folder(None) / "peers").absolute())
    script = Path(__file__).with_name(f"{name}_sasrec.py")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, DATA).mkdir()
        write_interactions(Path(folder, DATA, f"{DATA}.inter"), experiment.dataset)
        result = Path(folder, "result.json")
        settings = {**settings_of(experiment), "folder": folder, "dataset": DATA, "epochs": epochs}
        Path(folder, "settings.json").write_text(json.dumps(settings))
        threads = {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": ""}
        print(f"{name}: {epochs} epochs", flush=True)
        call([python, script, Path(folder, "settings.json"), result], cwd=folder, env={**os.environ, **threads})
        return Timing(name, **json.loads(result.read_text()))


def environment(name: str, folder: Path) -> Path:
    """Return the Python of a peer's virtual environment in `folder`, made first if it is missing or was not finished."""
    python, ready = folder / name / "bin" / "python", folder / name / "requirements.json"
    wanted = [[f"torch=={torch.__version__.partition('+')[0]}"], *REQUIREMENTS[name]]
    if ready.exists() and json.loads(ready.read_text()) == wanted:
        return python
    print(f"{name}: making its virtual environment in {folder / name} (minutes)", flush=True)
    call([sys.executable, "-m", "venv", "--clear", folder / name])
    for requirements in wanted:
        call([python, "-m", "pip", "install", "--quiet", *requirements])
    write_atomically(ready, json.dumps(wanted).encode())
    return python


def call(command: list, **options) -> None:
    """Run a command in silence; raises Failed with the last line of what it said if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        said = done.stdout.strip().splitlines() or ["it said nothing"]
        raise Failed(f"{said[-1]} ({' '.join(map(str, command[:5]))}: exit code {done.returncode})")


def settings_of(experiment: Experiment) -> dict:
    """Return what a peer has to be told to be configured like the experiment."""
    config = experiment.config
    backbone = ("layers", "heads", "feedforward", "dropout", "attention_dropout")
    return {
        **{key: config.backbone[key] for key in backbone},
        "dim": config.dim,
        "max_len": config.max_len,
        "batch_size": config.trainer.batch_size,
        "lr": config.trainer.optimizer.lr,
        "loss": config.loss.name,
        "negatives": config.loss.get("negatives", 1),
        "calibration": config.loss.get("calibration", 0.0),
        "threads": torch.get_num_threads(),
        "evaluations": EVALUATIONS,
    }
