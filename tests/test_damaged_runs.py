"""Whatever happens to a file of a run directory: the same result, or one clear line."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_setting import configure

from seqrec.build import load
from seqrec.commands import train
from seqrec.training.trainer import Trainer
from seqrec.utils.errors import UserError

SMALL = ["dataset.users=80", "dataset.items=60", "dataset.clusters=4", "dataset.max_length=20", "dim=8", "max_len=12"]
SMALL += ["backbone.layers=1", "trainer.max_epochs=4", "trainer.threads=1", "trainer.progress=false"]
METHODS = {"plain": [], "asarrec": ["method=asarrec"], "cat": ["method=cat", "method.stage2_epochs=3"]}
# half an hour of random damage: SEQREC_FUZZ=1 python -m pytest -m slow tests/test_damaged_runs.py
LONG = pytest.mark.skipif("SEQREC_FUZZ" not in os.environ, reason="random, and long: set SEQREC_FUZZ")
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def configuration(method):
    return configure(*SMALL, *METHODS[method])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with a finished and a half-finished run of each method."""
    folder = tmp_path_factory.mktemp("runs")

    def keep_half(self):
        if self.state.epoch == 2:
            path = self.checkpoints.folder
            shutil.copytree(path, path.with_name(f"{path.name}-half"), dirs_exist_ok=True)
        return original(self)

    original = Trainer._goes_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_goes_on", keep_half)
        for method in METHODS:
            train.job(configuration(method), folder / method)
    return folder


def flip(path: Path, number: int, runs: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[number % len(content)] ^= 1 << number % 8
    path.write_bytes(content)


def cut(path: Path, number: int, runs: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: number % (len(content) + 1)])


def swap(path: Path, number: int, runs: Path) -> None:
    others = sorted(other for other in runs.glob("*/*") if other.is_file() and other != path)
    shutil.copy(others[number % len(others)], path)


def remove(path: Path, number: int, runs: Path) -> None:
    path.unlink()


def age(path: Path, number: int, runs: Path) -> None:
    """Take a part of the file away, or change one, as if another version had written it."""
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        node = state.get("state", state) if number % 2 else state
        change(node, number // 2)
        stream = io.BytesIO()
        torch.save(state, stream)
        path.write_bytes(stream.getvalue())
    elif path.suffix == ".json":
        values = json.loads(path.read_text())
        change(values, number)
        path.write_text(json.dumps(values))
    else:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: number % (len(lines) + 1)] + lines[number % (len(lines) + 1) + 1 :]))


def change(node: dict, number: int) -> None:
    key = list(node)[number // 3 % len(node)]
    if number % 3 == 0:
        del node[key]
    elif number % 3 == 1:
        node["later"] = 1
    else:
        node[key] = node[key] + 1000 if isinstance(node[key], int) else None


def damaged(runs: Path, kind: str, method: str, harm, name: int, number: int) -> tuple[Path, str]:
    source, folder = runs / f"{method}{kind}", runs / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "run.log")
    path = files[name % len(files)]
    harm(path, number, runs)
    return folder, path.name


def one_clear_line(error: UserError) -> None:
    assert str(error)
    assert len(str(error).splitlines()) <= 2
    assert len(str(error)) < 600


def check_job(folder: Path, runs: Path, method: str) -> None:
    """Run the command in a damaged directory."""
    whole = runs / method
    try:
        objective = train.job(configuration(method), folder)
    except UserError as error:
        one_clear_line(error)
        return
    assert objective == json.loads((whole / "metrics.json").read_text())["valid"]["NDCG@10"]
    assert json.loads((folder / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())


def check_load(folder: Path, runs: Path, method: str) -> None:
    """Evaluate a damaged directory again."""
    try:
        experiment = load(folder)
        ranks = experiment.evaluator.ranks(experiment.scorer, experiment.split.test, torch.device("cpu"))
    except UserError as error:
        one_clear_line(error)
        return
    metrics = json.loads((runs / method / "metrics.json").read_text())
    assert experiment.evaluator.metrics(ranks) == metrics["test"]


def harms():
    return {
        "method": st.sampled_from(sorted(METHODS)),
        "harm": st.sampled_from([flip, cut, swap, remove, age]),
        "name": st.integers(0, 20),
        "number": st.integers(0, 2**20),
    }


def check_finished(runs, method, harm, name, number):
    folder, _ = damaged(runs, "", method, harm, name, number)
    check_job(folder, runs, method)
    folder, changed = damaged(runs, "", method, harm, name, number)
    if changed in ("best.pt", "config.yaml", "manifest.json", "DONE"):  # what evaluate.py reads
        check_load(folder, runs, method)


def check_half(runs, method, harm, name, number):
    folder, _ = damaged(runs, "-half", method, harm, name, number)
    check_job(folder, runs, method)


@pytest.mark.parametrize(
    ("resumed", "kind", "other", "method"),
    [(True, "-half", "", "cat"), (False, "", "-half", "asarrec")],
    ids=["resume", "evaluate"],
)
def test_best_weights_of_another_epoch_are_refused(runs, resumed, kind, other, method):
    folder, _ = damaged(runs, kind, method, lambda *_: None, 0, 0)
    shutil.copy(runs / f"{method}{other}" / "best.pt", folder / "best.pt")
    with pytest.raises(UserError, match=r"best\.pt is of epoch \d+, the best one was \d+"):
        train.job(configuration(method), folder) if resumed else load(folder)


def tries(check, examples: int, **options):
    """Return a test that calls `check` with so many random kinds of damage."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=HEALTH, **options)
    @given(**harms())
    def test(runs, method, harm, name, number):
        check(runs, method, harm, name, number)

    return test


test_a_damaged_finished_run = tries(check_finished, 25, derandomize=True)
test_a_damaged_half_finished_run = tries(check_half, 10, derandomize=True)
test_many_damaged_finished_runs = pytest.mark.slow(LONG(tries(check_finished, 1500)))
test_many_damaged_half_finished_runs = pytest.mark.slow(LONG(tries(check_half, 300)))
