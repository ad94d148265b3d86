"""AsarRec in a run: an augmenter of another run, warnings, what a run resumes, wrong values, and whether it is alive."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import job_setting
import pytest
import torch
from omegaconf import OmegaConf

from seqrec.build import build, load
from seqrec.commands import train as entry
from seqrec.methods.asarrec.views import rows_to_augment
from seqrec.utils.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = (
    *("method=asarrec", "loss=bce", "dataset.users=150", "dataset.items=120", "dataset.clusters=6", "dim=8"),
    *("backbone.layers=1", "trainer.batch_size=32", "trainer.threads=1", "trainer.progress=false"),
    *("trainer.max_epochs=2", "method.warmup_epochs=1"),
)


def configure(*overrides, base=SMALL):
    return job_setting.configure(*base, *overrides)


def method_of(*overrides):
    return build(configure(*overrides)).method


def history_of(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "asarrec"
    entry.job(configure(), folder)
    return folder


def test_a_run_logs_what_its_augmenter_does(finished):
    warm, active = history_of(finished)
    assert "train/changed" not in warm
    for name in (
        *("loss", "next_item", "contrast", "contrast_accuracy", "gradient", "augmenter", "augmenter_gradient"),
        *("diversity", "invariance", "distance", "soft_distance", "ndcg_margin"),
        *("changed", "fallback", "dropped", "moved", "inserted"),
    ):
        assert f"train/{name}" in active
    assert active["lr/augmenter"] == 1e-3


# --- an augmenter of another run -------------------------------------------------------------------------------


def test_an_augmenter_is_taken_over_by_a_run_on_other_data(finished, tmp_path):
    saved = torch.load(finished / "best.pt", weights_only=True)["model"]
    config = configure("dataset.items=110", f"method.augmenter_from={finished}", "method.augmenter_frozen=true")
    entry.job(config, tmp_path / "run")
    result = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["model"]
    names = [name for name in result if name.startswith("augmenter.")]
    assert len(names) == 6
    assert all(torch.equal(result[name], saved[name]) for name in names)
    assert history_of(tmp_path / "run")[1]["train/changed"] > 0


def test_an_augmenter_that_is_taken_over_goes_on_learning(finished, tmp_path):
    method = method_of(f"method.augmenter_from={finished}", "seed=2")
    fresh = method.augmenter.query.weight.detach().clone()
    method.on_start()
    assert not torch.equal(method.augmenter.query.weight, fresh)
    assert all(parameter.requires_grad for parameter in method.augmenter.parameters())
    assert "augmenter" in method.param_groups()
    untouched = method_of("seed=2")
    untouched.on_start()
    assert torch.equal(untouched.augmenter.query.weight, fresh)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", "there is no best.pt in it"),
        ("damaged", "best.pt is damaged"),
        ("code", "best.pt is damaged"),
        ("other method", "is missing there and ("),
        (
            "other length",
            "augmenter.position.weight is (55, 8) there and (25, 8) here; give an AsarRec run with the same dim",
        ),
        ("other width", "is (55, 8) there and (55, 16) here"),
    ],
)
def test_an_augmenter_that_cannot_be_taken_over_is_an_error_that_names_the_key(finished, tmp_path, spoil, message):
    folder = tmp_path / "other"
    shutil.copytree(finished, folder)
    overrides = {"other length": ["max_len=20"], "other width": ["dim=16"]}.get(spoil, [])
    if spoil == "missing":
        (folder / "best.pt").unlink()
    elif spoil == "damaged":
        (folder / "best.pt").write_bytes(b"nonsense")
    elif spoil == "code":
        torch.save({"model": subprocess.run}, folder / "best.pt")
    elif spoil == "other method":
        torch.save({"model": {"items.weight": torch.zeros(2)}}, folder / "best.pt")
    method = method_of(f"method.augmenter_from={folder}", *overrides)
    with pytest.raises(UserError) as error:
        method.on_start()
    assert str(error.value).startswith(f"method.augmenter_from={folder}: ")
    assert message in str(error.value)


# --- warnings and wrong values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "warned"), [(1, True), (2, False)])
def test_a_training_that_ends_with_the_warm_up_is_told(tmp_path, caplog, epochs, warned):
    config = configure("method.warmup_epochs=1", f"trainer.max_epochs={epochs}", "logger=none")
    entry.job(config, tmp_path)
    assert ("ends training before the method is complete" in caplog.text) == warned


def test_a_run_warns_once_when_its_views_are_inert_or_wild(caplog):
    method = method_of()
    warned = []
    for epoch, share in enumerate((0.0, 0.05, 0.05, 0.3, 0.62, 0.7, 0.1, 0.6, 0.02)):
        caplog.clear()
        method.changed += torch.tensor([round(share * 1000), 1000])
        method.on_epoch(epoch)
        assert method.changed.tolist() == [0, 0]
        warned.append([record.getMessage() for record in caplog.records if record.levelname == "WARNING"])
    assert [len(messages) for messages in warned] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert "0.0 % of the views differ" in warned[0][0]
    assert "lower method.stay" in warned[0][0]
    assert "62.0 % of the views differ" in warned[4][0]
    assert "raise method.stay or lower method.diversity_weight" in warned[4][0]


def test_the_count_of_changed_views_is_the_logged_share(caplog):
    experiment = build(configure("method.warmup_epochs=0", "method.gumbel=1"))
    method = experiment.method.train()
    method.on_epoch(0)
    total = 0
    for batch in experiment.loader.epoch(0):
        before = method.changed.clone()
        logs = method.optimize(batch, lambda loss, *groups: loss.backward())
        differ, views = (method.changed - before).tolist()
        assert views == 2 * int((batch.seq > 0).sum(1).ge(3).sum())
        assert float(logs["changed"]) == pytest.approx(differ / views)
        total += views
    assert method.changed.tolist()[1] == total


def test_the_recommender_is_the_plain_one_with_a_longer_position_table():
    """What the extra slots cost at inference."""
    base = [override for override in SMALL if not override.startswith("method")]
    method, plain = method_of(), build(configure("method=plain", base=base)).method
    extra = {name: p.shape for name, p in method.named_parameters() if not name.startswith("augmenter.")}
    own = {name: p.shape for name, p in plain.named_parameters()}
    assert extra.keys() == own.keys()
    assert {name for name in own if own[name] != extra[name]} == {"backbone.position.weight"}
    assert len(method.backbone.position.weight) == len(plain.backbone.position.weight) + 5


# --- resume ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_in_an_active_epoch_ends_with_the_same_bits(tmp_path):
    case = [*SMALL, "method.candidate_source=popularity", "trainer.max_epochs=3", "trainer.checkpoint_minutes=0"]

    def start(folder, script, *moment):
        command = [sys.executable, ROOT / script, *moment, *case, f"hydra.run.dir={tmp_path / folder}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})

    assert start("whole", "train.py").returncode == 0
    for moment in (("step", "9"), ("step", "3")):
        assert start("killed", "tests/killed_run.py", *moment).returncode < 0
    last = start("killed", "train.py")
    assert last.returncode == 0, last.stderr
    for name in ("best.pt", "last.pt"):
        one, other = (torch.load(tmp_path / run / name, weights_only=True)["model"] for run in ("whole", "killed"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [
        [{key: value for key, value in entry.items() if "second" not in key} for entry in history_of(tmp_path / run)]
        for run in ("whole", "killed")
    ]
    assert logs[0] == logs[1]


# --- the picture -----------------------------------------------------------------------------------------------


def test_the_matrices_of_users_can_be_drawn(finished, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    script = runpy.run_path(str(ROOT / "scripts" / "draw_matrices.py"))
    picture = tmp_path / "matrices.png"
    monkeypatch.setattr(sys, "argv", ["draw", str(finished), "1", "7", "--output", str(picture)])
    script["main"]()
    assert picture.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", ["draw", str(finished), "nobody"])
    with pytest.raises(UserError, match="user nobody is not in 'synthetic'"):
        script["main"]()


def test_a_picture_shows_the_matrices_of_the_users_history(finished):
    script = runpy.run_path(str(ROOT / "scripts" / "draw_matrices.py"))
    experiment = load(finished)
    method, train = experiment.method.eval(), experiment.split.train
    user = int(train.lengths.argmax())
    items, soft, hard = script["matrices"](method, train, user)
    history = train.items[train.start[user] : train.stop[user] - 1].tolist()
    assert items[5:] == history[-50:]
    assert items[:5] == method.candidates.table[user].flip(0).tolist()
    assert soft.shape == hard.shape == (2, len(items), len(items))
    assert set(hard.ravel().tolist()) == {0.0, 1.0}


# --- alive -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_after_warm_up_a_tenth_to_six_tenths_of_the_views_differ_from_their_history(tmp_path, noise):
    changes = ("dataset.users=1000", "dataset.items=500", "dim=32", "trainer.batch_size=128", "backbone.layers=2")
    config = configure(
        *changes, f"dataset.noise_share={noise}", "method.warmup_epochs=5", "trainer.max_epochs=20", "trainer.eval_every=20"
    )  # fmt: skip
    entry.job(config, tmp_path / "run")
    active = history_of(tmp_path / "run")[5:]
    shares = sorted(entry["train/changed"] for entry in active)
    # whether one epoch passes .6 by a hundredth is a matter of the seed
    assert shares[0] >= 0.1
    assert shares[-2] <= 0.6
    assert all(entry["train/fallback"] < 0.02 for entry in active)
    assert all(entry["train/ndcg_margin"] > 0 for entry in active)
    assert all(entry["train/augmenter_gradient"] > 0 for entry in active)
    assert (tmp_path / "run" / "run.log").read_text().count("differ from their history") <= 1
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").method.stay == config.method.stay


@pytest.mark.slow
def test_the_keep_probability_is_the_share_of_views_that_hold_the_item(finished):
    experiment = load(finished)
    method, batch = experiment.method, next(experiment.loader.epoch(0))
    torch.manual_seed(0)
    found = method.keep_probability(batch, draws=200)
    real = batch.seq > 0
    assert not found[~real].any()
    assert found.max() <= 1
    short = real.sum(1) < 3
    assert (found[short] == real[short]).all()
    extended, rows = method.extended(batch), rows_to_augment(batch, 3)
    count = torch.zeros(len(rows), batch.seq.shape[1])
    method.augmenter.train()
    for _ in range(200):
        views = method.hard_views(extended, method.effects(extended)).items(extended)
        for row, both in enumerate(views):
            for view in both:
                held = set(view.tolist())
                for slot, item in enumerate(batch.seq[rows[row]].tolist()):
                    count[row, slot] += item > 0 and item in held
    assert torch.allclose(found[rows], count / 400, atol=0.12)
    assert (found[rows][real[rows]] < 1).any()


def test_the_probe_compares_the_gradient_with_what_drops_do(finished, monkeypatch, capsys):
    script = runpy.run_path(str(ROOT / "scripts" / "augmenter_probe.py"))
    monkeypatch.setattr(sys, "argv", ["augmenter_probe.py", str(finished)])
    script["main"]()
    told = capsys.readouterr().out.split("  ")
    told = {name: float(value) for name, value in (entry.split() for entry in told[1:])}
    assert set(told) == {"dropped", "moved", "inserted", "substituted", "Spearman", "sign"}
    experiment = load(finished)
    method, batch = experiment.method.eval(), next(experiment.loader.epoch(0))
    extended = method.extended(batch)
    predicted, true = script["drops"](method, extended, 40)
    assert torch.isfinite(predicted).all()
    assert true.abs().max() > 1e-5
    # a candidate in an item's slot, another beside the history, an item that stays and one that is dropped
    pair = extended.cut(slice(0, 1))
    first, width = method.candidates.count, pair.items.shape[1]
    source = torch.full((1, 2, width), -1)
    source[:, :, first], source[:, :, 0], source[:, :, first + 1] = 1, 0, first + 1
    n = width - first
    assert script["operators"](pair, source) == pytest.approx(
        {"dropped": 1 - 1 / n, "moved": 0, "inserted": 1 / n, "substituted": 1 / n}
    )
