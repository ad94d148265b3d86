"""What scripts/benchmark.py measures, and what it measures against."""

import time
from statistics import median

import job_setting
import pytest
import torch
from benchmark_setting import SMALL

from seqrec.build import build
from seqrec.commands.timing import EVALUATIONS, Plain, Timing, benchmark, ratios, report, time_to_good
from seqrec.methods.base import Method
from seqrec.utils.errors import UserError


def configure(*overrides):
    return job_setting.configure(*SMALL, *overrides)


class FakeRival:
    name = "floor"

    def __init__(self, experiment):
        self.calls = []

    def epoch(self):
        self.calls.append("epoch")
        return 10.0 * len(self.calls)

    def evaluate(self):
        self.calls.append("evaluate")
        return 7.0


def test_the_first_epoch_and_the_first_ranking_are_not_counted_and_the_rival_takes_turns():
    rivals = []

    def make_rival(experiment):
        rivals.append(FakeRival(experiment))
        return rivals[0]

    steps = []
    original = Method.optimize

    def counted(self, batch, update):
        steps.append(len(rivals and rivals[0].calls))
        return original(self, batch, update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "optimize", counted)
        began = time.monotonic() - 100
        experiment, facts, (ours, theirs) = benchmark(configure(), 2, began, make_rival)
    per_epoch = len(experiment.loader)
    assert steps == [0] * per_epoch + [1] * per_epoch + [2] * per_epoch  # the rival's epochs lie between ours
    assert rivals[0].calls == ["epoch"] * 3 + ["evaluate"] * (1 + EVALUATIONS)
    assert theirs.epochs == [20.0, 30.0]
    assert theirs.evaluations == [7.0] * EVALUATIONS
    assert len(ours.epochs) == 2
    assert len(ours.evaluations) == EVALUATIONS
    assert ours.targets == theirs.targets == experiment.loader.targets
    assert ours.users == 150
    assert ours.peak_memory_bytes > 1e7
    assert 100 < facts["start_to_first_step"] < time.monotonic() - began
    assert facts["threads"] == 1


def test_an_epoch_includes_what_the_method_prepares(monkeypatch):
    monkeypatch.setattr(Method, "on_epoch", lambda self, epoch: time.sleep(0.3))
    _, _, (ours,) = benchmark(configure(), 1, 0.0)
    assert ours.epochs[0] > 0.3


def test_both_sides_have_the_precision_of_the_trainer(monkeypatch):
    seen, original = [], Method.optimize

    def noted(self, batch, update):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, batch, update)

    monkeypatch.setattr(Method, "optimize", noted)
    benchmark(configure("trainer.precision=bf16-mixed"), 1, 0.0, Plain)
    assert all(seen)


def test_schedules_are_those_of_the_whole_training():
    benchmark(configure("trainer.schedule=linear", "trainer.warmup_epochs=5"), 1, 0.0)


def test_a_stage_that_is_too_short_is_refused():
    with pytest.raises(UserError, match=r"stage 1 ended after 1 epochs, 2 and one to warm up were to be timed"):
        benchmark(configure("trainer.max_minutes=1e-9"), 2, 0.0)


def test_every_stage_is_timed(monkeypatch):
    begun = []
    monkeypatch.setattr(Method, "stages", 2)
    monkeypatch.setattr(Method, "on_stage", lambda self, stage: begun.append(stage) or (100 if stage else None))
    _, _, timings = benchmark(configure(), 1, 0.0)
    assert begun == [0, 1]
    assert [timing.name for timing in timings] == ["seqrec, stage 1", "seqrec, stage 2"]
    assert [len(timing.epochs) for timing in timings] == [1, 1]


def test_a_method_without_training_has_no_epoch_to_time():
    config = job_setting.configure("dataset.users=150", "method=popularity", "backbone=none", "loss=none")
    with pytest.raises(UserError, match="popularity is not trained"):
        benchmark(config, 1, 0.0)


def test_time_to_a_good_model():
    history = [
        {"epoch": 1, "train_seconds": 2.0, "valid_seconds": 0.5, "valid/NDCG@10": 0.5},
        {"epoch": 2, "train_seconds": 2.0},
        {"epoch": 3, "train_seconds": 1.0, "valid_seconds": 0.25, "valid/NDCG@10": 0.96},
        {"epoch": 4, "train_seconds": 9.0, "valid_seconds": 9.0, "valid/NDCG@10": 1.0},
        {"epoch": 5, "train_seconds": 9.0, "valid_seconds": 9.0, "valid/NDCG@10": 0.9},
    ]
    good = time_to_good(history, "NDCG@10")
    assert (good["seconds"], good["epoch"], good["epochs"], good["best"]) == (5.75, 3, 5, 1.0)


def test_figures_of_the_report():
    ours = Timing("seqrec", 1000, 30, [4.0, 2.0, 2.5], [0.5, 0.75, 0.25], 2_000_000)
    floor = Timing("floor", 1000, 30, [2.0, 1.0, 1.25], [0.2, 0.1, 0.3])
    summary = ours.summary()
    assert (summary["epoch_median"], summary["epoch_min"], summary["targets_per_second"]) == (2.5, 2.0, 500)
    assert (summary["evaluation_median"], summary["evaluation_min"], summary["users_per_second"]) == (0.5, 0.25, 120)
    expected = {"epoch_median": 2.0, "epoch_min": 2.0, "evaluation_median": 2.5, "evaluation_min": 2.5}
    assert ratios([ours, floor]) == {"floor": pytest.approx(expected)}
    _, _, first, second, ratio = report([ours, floor]).splitlines()
    assert first == "| seqrec | 1,000 | 2.500 | 2.000 | 500 | 0.500 | 0.250 | 120 | 2 |"
    assert second == "| floor | 1,000 | 1.250 | 1.000 | 1,000 | 0.200 | 0.100 | 300 |  |"
    assert ratio == "seqrec / floor: epoch 2 (fastest 2), ranking 2.5 (fastest 2.5)"


def test_a_method_is_timed_in_turns_with_the_backbone_alone():
    config = configure("method=cat", "loss=bce")
    _, _, timings = benchmark(config, 1, time.monotonic(), Plain)
    assert [timing.name for timing in timings] == [f"{who}, stage {n}" for who in ("seqrec", "plain") for n in (1, 2)]
    found = ratios(timings)
    assert set(found) == {"plain, stage 1", "plain, stage 2"}
    for n in (0, 1):
        expected = median(timings[n].epochs) / median(timings[2 + n].epochs)
        assert found[f"plain, stage {n + 1}"]["epoch_median"] == pytest.approx(expected)
    for timing in timings:
        assert len(timing.epochs) == 1
        assert len(timing.evaluations) == EVALUATIONS
    assert len(timings[1].epochs) == len(timings[3].epochs)


def test_the_rival_is_the_plain_method_on_the_same_batches():
    experiment = build(configure("method=cl4srec", "loss=bce"))
    rival = Plain(experiment)
    before = [parameter.clone() for parameter in rival.experiment.method.parameters()]
    assert type(rival.experiment.method) is Method
    assert rival.epoch() > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, rival.experiment.method.parameters(), strict=True))
    own, other = (next(e.loader.epoch(0)) for e in (experiment, rival.experiment))
    assert torch.equal(own.seq, other.seq)
    assert torch.equal(own.negative, other.negative)
