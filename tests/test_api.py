"""seqrec.run and seqrec.load: the command line's runs, from any folder, for histories of raw item ids."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from job_setting import CONF, SHORT, SMALL, configure

import seqrec
from seqrec.commands.train import job, run_path
from seqrec.utils.errors import UserError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Another working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "run"
    job(configure(*SHORT), folder)
    return folder


def test_the_package_is_imported_without_torch_or_hydra():
    code = "import seqrec, sys; print([name in sys.modules for name in ('torch', 'hydra', 'numpy')])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[False, False, False]"
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = seqrec.trian


def test_a_run_is_that_of_the_command_line(tmp_path, trained):
    run = seqrec.run(SHORT)
    assert run.directory.resolve() == tmp_path / "outputs" / run_path(configure(*SHORT))
    assert (run.directory / "DONE").exists()
    assert run.metrics == json.loads((trained / "metrics.json").read_text())
    with np.load(trained / "ranks_test.npz") as ranks:
        assert set(run.ranks) == set(ranks)
        assert all(np.array_equal(run.ranks[name], ranks[name]) for name in ranks)
    assert run.config.dim == 8
    stamp = (run.directory / "DONE").stat().st_mtime_ns
    assert seqrec.run(SHORT).metrics == run.metrics
    assert (run.directory / "DONE").stat().st_mtime_ns == stamp


def test_hydra_is_left_as_it_was(tmp_path):
    with initialize_config_dir(CONF, version_base="1.3"):
        mine = GlobalHydra.instance().hydra
        seqrec.run(["method=popularity", *SMALL[:3]], directory=tmp_path / "here")
        assert GlobalHydra.instance().hydra is mine
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
    assert (tmp_path / "here" / "DONE").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.max_epoch=3"], "trainer.max_epoch: no such key; did you mean 'trainer.max_epochs'?"),
        (["method=asarec"], "method=asarec: no such choice; did you mean 'asarrec'?"),
        (["dim=0"], "dim=0: must be"),
        (["method=popularity", "loss=bce"], "it counts and is not trained"),
        (["dry_run=true"], "work on the command line only"),
        (["trainer.devices=2"], "work on the command line only"),
    ],
)
def test_a_mistake_is_named_and_leaves_nothing(tmp_path, overrides, message):
    with pytest.raises(UserError) as error:
        seqrec.run(overrides)
    assert message in str(error.value)
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_model_scores_and_recommends_for_new_histories(trained):
    model = seqrec.load(trained)
    ids = model.item_ids.tolist()
    histories = [ids[:3], ids[5:6], ids[10:40]]
    scores = model.score(histories)
    assert scores.shape == (3, len(ids))
    lists = model.recommend(histories, k=4)
    for history, row, items in zip(histories, scores, lists, strict=True):
        assert {ids[at] for at in np.flatnonzero(np.isneginf(row))} == set(history)
        assert items == [ids[at] for at in np.argsort(-row, kind="stable")[:4]]
    unmasked = model.score(histories, mask_history=False)
    assert np.isfinite(unmasked).all()
    assert np.array_equal(unmasked[np.isfinite(scores)], scores[np.isfinite(scores)])


def test_unknown_items_are_skipped_and_counted(trained):
    model = seqrec.load(trained)
    known = model.item_ids.tolist()[:2]
    with pytest.warns(UserWarning, match="3 unknown item ids skipped"):
        lists = model.recommend([["new", *known], [known[0], "new", "newer"]], k=2)
    assert lists == model.recommend([known, known[:1]], k=2)
    with pytest.raises(UserError, match="sequence 1: none of its 1 items"):
        model.recommend([known, ["new"]])
    with pytest.raises(UserError, match="a list of item ids per user"):
        model.recommend(known)


@pytest.mark.parametrize("sequences", [[1, 2], [1.0, 2.0], [None], ["12"], 5])
def test_what_is_no_list_of_histories_is_refused(trained, sequences):
    with pytest.raises(UserError, match=r"^sequences: .*\[\[1, 2, 3\], \[4, 5\]\]"):
        seqrec.load(trained).score(sequences)


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_length_of_lists_is_a_whole_number_above_zero(trained, k):
    with pytest.raises(UserError, match=f"^k={k}: must be a whole number above 0"):
        seqrec.load(trained).recommend([[1, 2]], k)


def test_overrides_are_a_list():
    with pytest.raises(UserError, match=r"""^overrides: .*\["seed=2"\]"""):
        seqrec.run("seed=2")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config.yaml"):
        seqrec.load(tmp_path)
