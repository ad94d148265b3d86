"""The same run, bit for bit, whoever starts its processes: itself, torchrun on one machine or two, or Slurm."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_resume import KILLED, ROOT, TINY, TRAIN, results

RUN = (*TINY, "trainer.accelerator=cpu", "trainer.strategy=ddp", "backbone.dropout=.5", "trainer.checkpoint_minutes=0")
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")} | {"OMP_NUM_THREADS": "1"}
LIMIT = 300  # seconds


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def torchrun(processes: int, nodes: int, *arguments: object) -> list[list]:
    """Return the command of each machine, all of which are this one."""
    meeting = ["--master-addr=127.0.0.1", f"--master-port={free_port()}", f"--nnodes={nodes}"]
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *meeting]
    return [[*start, f"--node-rank={rank}", *arguments] for rank in range(nodes)]


def together(commands: list[list], environments: list[dict]) -> list[subprocess.CompletedProcess]:
    started = [
        subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=CLEAN | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, more in zip(commands, environments, strict=True)
    ]
    try:
        said = [process.communicate(timeout=LIMIT) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *lines)
        for process, lines in zip(started, said, strict=True)
    ]


def once(answers: list[subprocess.CompletedProcess], line: str) -> bool:
    return sum(answer.stdout.count(line) for answer in answers) == 1


def slurm(tasks: int) -> list[dict]:
    """Return what srun sets for each of the tasks on a machine."""
    common = {"SLURM_NTASKS": tasks, "SLURM_NTASKS_PER_NODE": tasks, "SLURM_NNODES": 1, "SLURM_NODEID": 0}
    common |= {"SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": free_port()}
    tasks = [common | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in range(tasks)]
    return [{key: str(value) for key, value in task.items()} for task in tasks]


@pytest.mark.slow
def test_two_processes_give_the_same_bits_whoever_starts_them(tmp_path):
    devices = (*RUN, "trainer.devices=2")
    (own,) = together([[sys.executable, TRAIN, *devices, f"hydra.run.dir={tmp_path / 'own'}"]], [{}])
    assert own.returncode == 0, own.stderr
    expected = results(tmp_path / "own")
    where = f"hydra.run.dir={tmp_path / 'torchrun'}"
    ways = {
        "torchrun": (torchrun(2, 1, TRAIN, *devices, where), [{}]),
        "nodes": (torchrun(1, 2, TRAIN, *RUN, "trainer.num_nodes=2", f"hydra.run.dir={tmp_path / 'nodes'}"), [{}, {}]),
        "slurm": ([[sys.executable, TRAIN, *devices, f"hydra.run.dir={tmp_path / 'slurm'}"]] * 2, slurm(2)),
    }
    for name, (commands, environments) in ways.items():
        answers = together(commands, environments)
        assert all(answer.returncode == 0 for answer in answers), [answer.stderr for answer in answers]
        assert once(answers, "best epoch"), name
        assert results(tmp_path / name) == expected, name
        assert not list(tmp_path.glob(f"{name}.old*"))
    again = together(torchrun(2, 1, TRAIN, *devices, where), [{}])
    assert once(again, "complete already")


@pytest.mark.slow
def test_four_processes_give_the_same_bits_under_torchrun_killed_and_resumed(tmp_path):
    devices = (*RUN, "trainer.devices=4")
    (own,) = together([[sys.executable, TRAIN, *devices, f"hydra.run.dir={tmp_path / 'own'}"]], [{}])
    assert own.returncode == 0, own.stderr
    where = f"hydra.run.dir={tmp_path / 'killed'}"
    (killed,) = together(torchrun(4, 1, KILLED, "step", "7", *devices, where), [{}])
    assert killed.returncode != 0
    assert signal.Signals.SIGKILL.name in killed.stdout + killed.stderr or "-9" in killed.stderr
    assert (tmp_path / "killed" / "last.pt").exists()
    assert not (tmp_path / "killed" / "DONE").exists()
    (last,) = together(torchrun(4, 1, TRAIN, *devices, where), [{}])
    assert last.returncode == 0, last.stderr
    assert results(tmp_path / "killed") == results(tmp_path / "own")


@pytest.mark.slow
def test_another_number_of_processes_is_refused_in_one_line(tmp_path):
    where = f"hydra.run.dir={tmp_path / 'run'}"
    for answers in (
        together(torchrun(2, 1, TRAIN, *RUN, where), [{}]),
        together([[sys.executable, TRAIN, *RUN, where]] * 2, slurm(2)),
    ):
        assert all(answer.returncode == 1 for answer in answers)
        told = [line for answer in answers for line in answer.stderr.splitlines() if line.startswith("error: ")]
        assert len(told) == 1
        assert "trainer.devices=1 trainer.num_nodes=1" in told[0]
        assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_a_fused_run_of_two_processes_is_fused_by_the_first(tmp_path):
    arguments = (*TINY, "trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2", "fusion=counts")
    (answer,) = together(torchrun(2, 1, TRAIN, *arguments, f"output_dir={tmp_path}"), [{}])
    assert answer.returncode == 0, answer.stderr
    metrics = [json.loads(path.read_text()) for path in Path(tmp_path).rglob("metrics.json")]
    assert sorted("fusion" in values for values in metrics) == [False, True]
