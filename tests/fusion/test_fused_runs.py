"""Runs with fusion: what is trained, what is fitted on what, and what evaluation sees."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from job_setting import SHORT, SMALL, configure

from seqrec.build import build, load, make_fusion
from seqrec.commands import train
from seqrec.commands.fusion_study import main, study
from seqrec.config import run_path, without_fusion
from seqrec.data.loader import EvalLoader
from seqrec.evaluation.recommend import of_users, recommend
from seqrec.fusion import fusion as fusion_module
from seqrec.fusion.fusion import fit_groups
from seqrec.training.trainer import Trainer
from seqrec.utils.errors import UserError
from seqrec.utils.keyed_random import uniform, user_keys

ROOT, CPU = Path(__file__).parents[2], torch.device("cpu")


def run(folder, *overrides):
    """Run a job below `folder`, as the command line places it; returns the run directory."""
    given = SMALL[:3] if "method=counts" in overrides else [*SHORT, "trainer.threads=1"]
    config = configure(*given, f"output_dir={folder}", *overrides)
    train.job(config, folder / run_path(config))
    return folder / run_path(config)


def metrics(path):
    return json.loads((path / "metrics.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds a complete run of plain, and the same fused with counts."""
    folder = tmp_path_factory.mktemp("outputs")
    run(folder, "fusion=counts")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    return run(folder)


@pytest.fixture(scope="module")
def fused(folder):
    return run(folder, "fusion=counts")


@pytest.fixture(scope="module")
def experiment(fused):
    experiment = load(fused)
    experiment.scorer.eval()
    return experiment


def group_of(length, lengths):
    """The group of a history: the number of bounds that it is longer than."""
    return sum(length > bound for bound in lengths)


def literal(experiment, batch):
    """The fused score of a batch from its definition: every weight of the row's group times its feature, densely."""
    weights = metrics(Path(experiment.config.output_dir) / run_path(experiment.config))["fusion"]["weights"]
    groups = [group_of(int(length), experiment.config.fusion.lengths) for length in (batch.seq > 0).sum(1)]
    column = {name: torch.tensor([each[g] for g in groups])[:, None] for name, each in weights.items()}
    features = experiment.scorer.features
    score = column["model"] * experiment.method.score(batch)
    score = score + column["popularity"] * features.of_items[0]
    for name, feature in zip(features.counted, features.each(batch.seq.numpy()), strict=True):
        score = score + column[name] * torch.from_numpy(feature.toarray())
    return score


def test_the_run_without_fusion_is_completed_first_and_stays_as_it_is(folder, alone, fused):
    assert (alone / "DONE").exists()
    assert (fused / "DONE").exists()
    assert metrics(fused)["unfused"] == {key: metrics(alone)[key] for key in ("valid", "test")}
    assert metrics(fused)["best_epoch"] == metrics(alone)["best_epoch"]
    assert (fused / "best.pt").read_bytes() == (alone / "best.pt").read_bytes()
    assert fused.parent.name == "sasrec-plain+counts"


def test_nothing_is_trained_where_the_run_without_fusion_is_complete(folder, alone, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", lambda _: pytest.fail("trained again"))
    again = run(folder, "fusion=counts", "fusion.features=[newest]")
    assert metrics(again)["unfused"]["test"] == metrics(alone)["test"]


def test_the_score_is_the_weighted_sum_of_its_features(experiment):
    with torch.no_grad():
        for _, batch in EvalLoader(experiment.split.test, 40, experiment.config.max_len):
            assert experiment.scorer.score(batch).numpy() == pytest.approx(literal(experiment, batch).numpy(), abs=1e-4)


def test_evaluation_again_gives_the_fused_metrics(experiment, fused):
    ranks = experiment.evaluator.ranks(experiment.scorer, experiment.split.test, CPU)
    assert experiment.evaluator.metrics(ranks) == pytest.approx(metrics(fused)["test"])
    assert metrics(fused)["test"] != metrics(fused)["unfused"]["test"]


def test_recommendations_are_the_best_fused_scores(experiment):
    user = str(experiment.dataset.user_ids[3])
    rows = of_users(experiment.dataset, [user])
    (found,) = recommend(experiment.scorer, experiment.dataset, rows, 5, CPU)
    ((_, batch),) = EvalLoader(rows, 1, experiment.config.max_len)
    score = literal(experiment, batch)[0].detach()
    score[0] = score[batch.seen[1]] = -torch.inf
    assert found == experiment.dataset.item_ids[score.argsort(descending=True)[:5].numpy()].tolist()


def test_scores_do_not_depend_on_the_batch_or_the_order_of_users(experiment):
    split = experiment.split.test
    whole = experiment.evaluator.ranks(experiment.scorer, split, CPU)
    rows = np.random.default_rng(0).permutation(len(split.user))
    shuffled = experiment.evaluator.ranks(experiment.scorer, split.take(rows), CPU)
    assert np.array_equal(shuffled.better, whole.better[rows])
    few = experiment.evaluator.ranks(experiment.scorer, split.take(rows[:3]), CPU)
    assert np.array_equal(few.better, whole.better[rows[:3]])


def fitted(config):
    """Fit the fusion of a configuration from its untrained weights; returns the fusion, weights and validation ranks."""
    experiment = build(config)
    fusion, models = make_fusion(experiment)
    keys = user_keys(experiment.dataset.user_ids)
    return experiment, fusion, models, keys


def test_the_weights_that_rank_a_half_do_not_know_its_targets(folder, monkeypatch):
    experiment, fusion, models, keys = fitted(configure(*SHORT, "fusion=counts", f"output_dir={folder}"))
    valid, found = experiment.split.valid, []

    def recorded(groups, start):
        rows = sum(len(chunk.target) for chunks in groups for chunk in chunks)
        found.append((rows, fit_groups(groups, start)))
        return found[-1][1]

    monkeypatch.setattr(fusion_module, "fit_groups", recorded)
    half = uniform(fusion_module.FOLD, keys[valid.user]) < 0.5
    fusion.fit(models, valid, keys, experiment.evaluator, CPU)
    for changed, kept in ((half, 1), (~half, 2)):  # the fits: all, the second half, the first half
        target = valid.target.copy()
        target[changed] = np.random.default_rng(1).permutation(target[changed])
        before, found[:] = list(found), []
        fusion.fit(models, replace(valid, target=target), keys, experiment.evaluator, CPU)
        assert found[kept][0] == (~changed).sum()
        assert torch.equal(found[kept][1], before[kept][1])
        assert not torch.equal(found[3 - kept][1], before[3 - kept][1])
        found[:] = before


def test_features_come_from_the_training_set_alone(folder):
    config = configure(*SHORT, "fusion=counts", f"output_dir={folder}")
    experiment = build(config)
    batch = next(iter(EvalLoader(experiment.split.valid, 20, 50)))[1]
    fusion, _ = make_fusion(experiment)
    before = fusion.features.aligned(batch.seq)
    train_items, later = np.zeros(len(experiment.dataset.items), bool), experiment.split.train
    for start, stop in zip(later.start, later.stop, strict=True):
        train_items[start:stop] = True
    experiment.dataset.items[~train_items] = 1 + experiment.dataset.items[~train_items] % experiment.dataset.num_items
    other, _ = make_fusion(experiment)
    after = other.features.aligned(batch.seq)
    assert torch.equal(before.cell, after.cell)
    assert torch.equal(before.value, after.value)


def test_each_group_of_histories_is_fitted_on_its_own_users(folder, monkeypatch):
    experiment, fusion, models, keys = fitted(
        configure(*SHORT, "fusion=counts", "fusion.lengths=[3,9]", f"output_dir={folder}")
    )
    found = []
    monkeypatch.setattr(
        fusion_module, "fit_groups", lambda groups, start: found.append(groups) or fit_groups(groups, start)
    )
    fusion.fit(models, experiment.split.valid, keys, experiment.evaluator, CPU)
    expected = [group_of(min(int(length), 50), [3, 9]) for length in experiment.split.valid.inputs.lengths]
    for groups in found:
        assert len(groups) == 3
    assert [sum(len(c.target) for c in chunks) for chunks in found[0]] == [expected.count(g) for g in range(3)]


def test_weights_do_not_depend_on_the_order_of_users(folder):
    config = configure(*SHORT, "fusion=counts", f"output_dir={folder}")
    experiment, fusion, models, keys = fitted(config)
    weights, ranks = fusion.fit(models, experiment.split.valid, keys, experiment.evaluator, CPU)
    rows = np.random.default_rng(2).permutation(len(experiment.split.valid.user))
    other, shuffled = fusion.fit(models, experiment.split.valid.take(rows), keys, experiment.evaluator, CPU)
    assert list(other) == list(weights)
    assert np.array(list(other.values())) == pytest.approx(np.array(list(weights.values())), abs=1e-3)
    assert np.abs(shuffled.rank - ranks.rank[rows]).max() <= 1


def test_the_trained_model_is_not_changed_by_the_fit(folder):
    config = configure(*SHORT, "fusion=counts", f"output_dir={folder}")
    experiment, fusion, models, keys = fitted(config)
    before = {name: value.clone() for name, value in experiment.method.state_dict().items()}
    fusion.fit(models, experiment.split.valid, keys, experiment.evaluator, CPU)
    assert all(torch.equal(value, before[name]) for name, value in experiment.method.state_dict().items())


def test_models_are_moved_to_the_device_of_the_fit(folder, monkeypatch):
    experiment, fusion, models, keys = fitted(configure(*SHORT, "fusion=counts", f"output_dir={folder}"))
    moved = []
    monkeypatch.setattr(models[0], "to", moved.append)
    fusion.fit(models, experiment.split.valid, keys, experiment.evaluator, CPU)
    assert moved == [CPU]


def test_counts_alone_are_a_method(folder):
    path = run(folder, "method=counts")
    found = metrics(path)
    assert path.parent.name == "none-counts"
    assert "unfused" not in found
    assert "model" not in found["fusion"]["weights"]
    assert found["test"]["NDCG@10"] > 0


def test_a_fused_run_is_not_fused_again(folder, alone, fused):
    path = run(folder, "method=counts", "fusion=runs", f"fusion.runs=[{alone}]", "fusion.features=[newest]")
    for number, runs in enumerate(([path], [alone, fused])):
        with pytest.raises(UserError, match=rf"fusion\.runs\[{number}\]"):
            run(folder, "method=counts", "fusion=runs", f"fusion.runs=[{','.join(map(str, runs))}]")


def test_finished_runs_are_fused(folder, alone):
    other = run(folder, "seed=2", "max_len=6")
    path = run(folder, "method=counts", "fusion=runs", f"fusion.runs=[{alone},{other}]", "fusion.features=[newest]")
    assert list(metrics(path)["fusion"]["weights"]) == ["model", "model_2", "newest"]
    again = load(path)
    ranks = again.evaluator.ranks(again.scorer, again.split.test, CPU)
    assert again.evaluator.metrics(ranks) == pytest.approx(metrics(path)["test"])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("dataset.seed=9",), "data"),
        (("noise=insert", "noise.ratio=.5"), "noise"),
        (("max_len=20",), "max_len"),
    ],
)
def test_runs_of_something_else_are_refused(folder, alone, overrides, key):
    with pytest.raises(UserError, match=rf"fusion\.runs\[0\].*{key}"):
        run(folder, "method=counts", "fusion=runs", f"fusion.runs=[{alone}]", *overrides)


@pytest.mark.slow
def test_a_run_killed_in_the_fit_ends_with_the_same_metrics(tmp_path, folder, fused):
    code = (
        "import os, signal, sys; import seqrec.fusion.fusion as f; "
        "f.fit = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "from seqrec.commands.train import main; main(sys.argv[1:])"
    )
    command = [*SHORT, "trainer.threads=1", f"output_dir={tmp_path}", "fusion=counts"]
    killed = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    path = tmp_path / run_path(configure(*command))
    assert not (path / "DONE").exists()
    assert (tmp_path / run_path(without_fusion(configure(*command))) / "DONE").exists()
    assert metrics(run(tmp_path, "fusion=counts")) == metrics(fused)


def test_noise_reaches_the_counts(folder):
    noisy = load(run(folder, "fusion=counts", "noise=insert", "noise.ratio=.5"))
    clean = load(run(folder, "fusion=counts"))
    assert noisy.scorer.features.matrices["normalised"].nnz > clean.scorer.features.matrices["normalised"].nnz


def test_the_study_adds_up(experiment, fused, alone, capsys):
    tables = study(fused, None)
    overlap = tables["Fractions of the test users whose target is in the top 10"]
    found = metrics(fused)
    cells = overlap[["counts miss", "counts hit"]].to_numpy()
    assert cells.sum() == pytest.approx(1)
    assert cells[1].sum() == pytest.approx(found["unfused"]["test"]["HR@10"], abs=0.01)
    assert (cells.sum(1) * overlap["fused HR@10"]).sum() == pytest.approx(found["test"]["HR@10"], abs=0.01)
    for title, table in tables.items():
        if "by" in title:
            mean = np.average(table["fused"], weights=table["users"])
            assert mean == pytest.approx(found["test"]["NDCG@10"])
    main([str(fused)])
    assert "NDCG@10 by length of the history" in capsys.readouterr().out
    with pytest.raises(UserError, match="fusion=counts"):
        study(alone, None)
