"""What the command line answers, in separate processes as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqrec.build import load

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import runpy, sys
sys.argv = ["train.py", *sys.argv[1:]]
try:
    runpy.run_path("train.py", run_name="__main__")
finally:
    print("torch imported:", "torch" in sys.modules)
"""


def call(*arguments: str, code: str | None = None, **environment: str) -> subprocess.CompletedProcess:
    script = ["train.py"] if code is None else ["-c", code]
    variables = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, *script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=variables | environment,
    )


def test_help_lists_groups_and_common_keys_without_torch():
    answer = call("--help", code=WITHOUT_TORCH)
    for word in ("backbone: ", "dataset: ", "method: ", "seed=1", "trainer.max_epochs", "dry_run"):
        assert word in answer.stdout
    assert "torch imported: False" in answer.stdout


def test_full_error_shows_the_traceback():
    answer = call("trainer.batch_size=-3", HYDRA_FULL_ERROR="1")
    assert answer.returncode != 0
    assert "Traceback" in answer.stderr
    assert "must be a whole number above 0" in answer.stderr


@pytest.mark.parametrize("arguments", ["", ", 'go on'"])
def test_what_is_interrupted_says_whether_it_can_go_on(arguments):
    code = f"import sys; from seqrec.cli import guarded; sys.exit(guarded(lambda: (_ for _ in ()).throw(KeyboardInterrupt){arguments}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (130, "\ngo on\n" if arguments else "\ninterrupted\n")


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "import sys; from seqrec.cli import guarded; sys.exit(guarded(lambda: print('x' * 100_000)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.slow
def test_a_sweep_gives_one_directory_per_job_and_a_complete_one_is_skipped(tmp_path):
    sweep = ("-m", "method=popularity,markov", "seed=1,2", f"output_dir={tmp_path}")
    first = call(*sweep)
    assert first.returncode == 0, first.stderr
    done = sorted(str(path.parent.relative_to(tmp_path)).rsplit("-", 1)[0] for path in tmp_path.rglob("DONE"))
    assert done == [
        f"synthetic/none/none-{method}/seed{seed}" for method in ("markov", "popularity") for seed in (1, 2)
    ]
    again = call(*sweep)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete already") == 4


@pytest.mark.slow
def test_two_runs_with_the_same_seed_give_the_same_bits_and_another_seed_others(tmp_path):
    small = ("dataset.users=150", "dataset.items=120", "dim=8", "trainer.max_epochs=2", "trainer.threads=1")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        answer = call(*small, f"seed={seed}", f"hydra.run.dir={tmp_path / name}")
        assert answer.returncode == 0, answer.stderr
    read = [(tmp_path / name / "metrics.json").read_text() for name in "abc"]
    assert read[0] == read[1] != read[2]


@pytest.mark.slow
def test_two_processes_average_sparse_gradients(tmp_path):
    losses = []
    for sparse in ("true", "false"):  # the same where every item is a negative in every step
        answer = call(
            *("dataset.users=150", "dataset.items=120", "dim=8", "trainer.max_epochs=2", "trainer.threads=1"),
            *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", f"trainer.sparse={sparse}"),
            *("loss=sampled_softmax", "loss.negatives=120", f"hydra.run.dir={tmp_path / sparse}"),
        )
        assert answer.returncode == 0, answer.stderr
        lines = (tmp_path / sparse / "history.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["train/loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    parallel = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
    answer = call(
        *("dataset.users=150", "dataset.items=120", "dim=8", "trainer.max_epochs=2", "trainer.threads=1"),
        *(*parallel, f"hydra.run.dir={tmp_path / 'run'}"),
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("epoch   1*") == 1
    assert (tmp_path / "run" / "DONE").exists()
    experiment = load(tmp_path / "run")
    assert experiment.fabric.world_size == 1
    ranks = experiment.evaluator.ranks(experiment.method, experiment.split.test, experiment.fabric.device)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert experiment.evaluator.metrics(ranks) == metrics["test"]
    with np.load(tmp_path / "run" / "ranks_test.npz") as shared:
        assert np.array_equal(shared["better"], ranks.better)
        assert np.array_equal(shared["equal"], ranks.equal)
    assert experiment.validate() == metrics["valid"]


@pytest.mark.slow
def test_a_failed_ranking_ends_all_processes_with_one_line(tmp_path):
    answer = call(
        *("dataset.users=150", "dataset.items=120", "dim=8", "trainer.max_epochs=1", "trainer.optimizer.lr=1e30"),
        *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", f"hydra.run.dir={tmp_path / 'run'}"),
        *("trainer.batch_size=256", "trainer.threads=1"),  # a single step, so that the ranking is the first to see it
    )
    assert answer.returncode == 1
    assert answer.stderr.count("error: ") == 1
    assert "not a finite number" in answer.stderr
    assert "Traceback" not in answer.stderr
