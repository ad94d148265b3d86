"""What becomes of the other jobs of a sweep when one fails or is killed, and what the sweep says of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqrec.cli import LAUNCHERS
from seqrec.commands import sweep
from seqrec.runs.summary import sweep_table
from seqrec.utils.errors import UserError

ROOT = Path(__file__).parents[1]
SMALL = ("dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8")
EPOCHS = (60, 2, 3)
LOCAL = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local", "trainer.threads=1"),
}
needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="there is no /proc to find processes in")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, ROOT / "train.py", "-m", *SMALL, f"output_dir={folder}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def statuses(output: str) -> dict[str, str]:
    """Return the status that the table of a sweep gives each run."""
    table = output[output.rindex("\nrun ") :].strip().splitlines()
    lines = [line.split("  ") for line in table[1:] if not line.startswith(("failed:", "killed:"))]
    return {cells[0].strip(): next(cell.strip() for cell in cells[1:] if cell) for cells in lines}


def holder(run_dir: Path) -> int:
    """Return the process that trains in a run directory, known by the lock that it has open."""
    lock = run_dir.with_name(f".{run_dir.name}.lock")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == lock:
                return int(link.parts[2])
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    raise AssertionError(f"nobody is at work in {run_dir}")


def until_trained(folder: Path, seconds: float = 180) -> Path:
    """Wait until the longest run has a checkpoint; returns its directory."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in folder.rglob("last.pt"):
            if f"max_epochs: {EPOCHS[0]}\n" in (path.parent / "config.yaml").read_text():
                return path.parent
        time.sleep(0.05)
    raise AssertionError("no run has begun")


def test_a_failed_job_is_named_and_the_others_go_on(tmp_path):
    job = start(tmp_path, "method=popularity", "seed=1,-1,2")
    output, errors = job.communicate()
    assert job.returncode == 1
    assert statuses(output) == {"seed=1": "complete", "seed=-1": "failed", "seed=2": "complete"}
    assert "1 of 3 runs" in errors
    assert "seed=-1: must be" in errors
    assert len(list(tmp_path.rglob("DONE"))) == 2
    assert not list(tmp_path.glob(".sweep-*"))


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "victim"),
    [("basic", "job"), *((name, who) for name in ("joblib", "submitit_local") for who in ("job", "worker"))],
)
def test_a_killed_job_is_named_the_others_go_on_and_the_same_command_completes_it(tmp_path, launcher, victim):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    arguments = (*LOCAL[launcher], f"trainer.max_epochs={','.join(map(str, EPOCHS))}", "trainer.patience=1000")
    killed = start(tmp_path, *arguments)
    run_dir = until_trained(tmp_path)
    process = holder(run_dir)
    if victim == "worker":
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(process, signal.SIGKILL)
    output, errors = killed.communicate()
    assert killed.returncode == 1, errors
    names = [f"trainer.max_epochs={number}" for number in EPOCHS]
    assert statuses(output) == dict(zip(names, ("killed", "complete", "complete"), strict=True)), output
    assert f"killed: {names[0]}: " in output
    assert len(list(tmp_path.rglob("DONE"))) == 2

    again = start(tmp_path, *arguments)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert set(statuses(output).values()) == {"complete"}
    assert len(list(tmp_path.rglob("DONE"))) == 3
    if launcher == "basic":
        assert 0 < output.count("\nepoch ") < EPOCHS[0]  # it went on from its checkpoint
        assert output.count("complete already") == 2


@pytest.mark.slow
def test_a_job_without_a_path_is_refused_and_the_others_go_on(tmp_path):
    job = start(tmp_path, "method=popularity", "dataset.name=a,b/c,d")
    output, errors = job.communicate()
    assert job.returncode == 1
    assert set(statuses(output).values()) == {"complete", "failed"}
    assert "a name becomes a folder" in errors
    assert len(list(tmp_path.rglob("DONE"))) == 2
    assert not list(tmp_path.rglob(".refused"))


def test_the_table_shows_what_differs_and_why_a_run_is_missing(tmp_path):
    good, bad = (
        {"overrides": ["dim=8", f"seed={seed}"], "directory": str(tmp_path), "monitor": "NDCG@10", "state": "complete"}
        for seed in (1, 2)
    )
    table = sweep_table(
        [good | {"status": "complete", "value": 0.5}, bad | {"status": "failed", "error": "no such file"}]
    )
    assert "dim=8" not in table
    assert "failed: seed=2: no such file" in table
    assert "0.5000" in table


@pytest.mark.parametrize("breaks", [1, 2])
def test_a_launcher_that_breaks_is_called_again_as_long_as_jobs_begin(tmp_path, monkeypatch, breaks):
    record = {"overrides": [], "directory": str(tmp_path), "monitor": "NDCG@10"}
    calls = []

    def entry():
        monkeypatch.setenv(sweep.VARIABLE, str(tmp_path / "records"))
        (tmp_path / "records").mkdir(exist_ok=True)
        calls.append(1)
        if len(calls) <= breaks:
            sweep.write_json(tmp_path / "records" / "00000.json", record | {"starts": len(calls)})
            raise RuntimeError("a worker was killed")
        ended = {"starts": len(calls), "status": "complete", "value": 0.1}
        sweep.write_json(tmp_path / "records" / "00000.json", record | ended)

    (found,) = sweep.run(entry)
    assert found["status"] == "complete"
    assert len(calls) == breaks + 1
    sweep.refuse_failures([found])
    with pytest.raises(UserError, match=r"1 of 1 runs .* out of luck"):
        sweep.refuse_failures([found | {"status": "killed", "error": "out of luck"}])


def test_a_launcher_that_begins_nothing_is_not_called_again():
    calls = []

    def entry():
        calls.append(1)
        raise RuntimeError("no such node")

    with pytest.raises(RuntimeError, match="no such node"):
        sweep.run(entry)
    assert len(calls) == 1


def test_every_launcher_names_an_extra_that_there_is():
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert all(f"\n{extra} = [" in extras for extra in LAUNCHERS.values())


# A sweeper with a sampler of its own, as hydra-optuna-sweeper is: it runs what it is told and writes down the objectives.
SWEEPER = """
import pathlib
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

class Sampler:
    pass

class Own(BasicSweeper):
    def __init__(self, sampler):
        super().__init__(max_batch_size=None)

    def sweep(self, arguments):
        ended = super().sweep(arguments)
        pathlib.Path("objectives").write_text(" ".join(str(job.return_value) for batch in ended for job in batch))

OWN = "hydra_plugins.own_sweeper."
store = ConfigStore.instance().store
node = {"_target_": OWN + "Own", "defaults": [{"sampler": "own"}], "sampler": "???"}
store(group="hydra/sweeper", name="own", node=node, provider="own")
store(group="hydra/sweeper/sampler", name="own", node={"_target_": OWN + "Sampler"}, provider="own")
"""


@pytest.mark.slow
def test_an_installed_sweeper_with_a_sampler_gets_the_validation_metric(tmp_path):
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "own_sweeper.py").write_text(SWEEPER)
    command = [sys.executable, ROOT / "train.py", "-m", *SMALL, f"output_dir={tmp_path}/out", "hydra/sweeper=own"]
    path = {"PYTHONPATH": str(tmp_path)}
    subprocess.run([*command, "method=popularity", "seed=1,2"], cwd=tmp_path, env=os.environ | path, check=True)
    objectives = [float(value) for value in (tmp_path / "objectives").read_text().split()]
    runs = [json.loads(file.read_text()) for file in sorted((tmp_path / "out").rglob("metrics.json"))]
    assert objectives == [run["valid"]["NDCG@10"] for run in runs]
