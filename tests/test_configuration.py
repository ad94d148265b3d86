"""What a configuration stands for, and which ones are refused before anything is run."""

from pathlib import Path

import pytest
from job_setting import CONF, configure

from seqrec.cli import compose_config
from seqrec.commands import train
from seqrec.config import check, config_hash, run_path
from seqrec.utils.errors import UserError


@pytest.mark.parametrize(
    "overrides",
    [
        "seed=3 method=asarrec dataset=beauty method.stay=.5",
        "experiment=cat/ablation variant=full dim=8",
        "tune=plain tune.trials=7 ~method.name",
        "+variants.a.dim=8 noise=insert noise.ratio=.4",
    ],
)
def test_the_tests_configurations_are_those_that_hydra_composes(overrides):
    assert configure(*overrides.split()) == compose_config(overrides.split())


def test_hash_and_path_follow_what_decides_the_result():
    plain = configure()
    for same in ("data_dir=/elsewhere", "output_dir=x", "trainer.devices=1", "force=true", "trainer.progress=false"):
        assert config_hash(configure(same)) == config_hash(plain)
    for other in (
        "seed=2",
        "dim=32",
        "trainer.devices=2",
        "loss=bce",
        "trainer.optimizer.lr=0.01",
        "eval.mask_history=false",
    ):
        assert config_hash(configure(other)) != config_hash(plain)
    assert run_path(plain) == f"synthetic/none/sasrec-plain/seed1-{config_hash(plain)}"


@pytest.mark.parametrize("path", sorted((Path(CONF) / "backbone").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_backbone_as_it_is_passes_the_check(path):
    untrained = ["method=popularity"] if path.stem == "none" else []
    check(configure(f"backbone={path.stem}", *untrained))


def test_the_original_sasrec_differs_from_the_other_in_its_residual_sums_alone():
    plain, original = (dict(configure(f"backbone={name}").backbone) for name in ("sasrec", "sasrec_original"))
    assert plain | {"name": "sasrec_original", "norm_first": "original"} == original


def test_several_devices_are_refused_in_a_multirun(tmp_path):
    with pytest.raises(UserError, match="does not work inside a multirun"):
        train.job(configure("trainer.devices=2"), tmp_path / "run", multirun=True)


def test_losses_with_negatives_wait_longer_before_the_learning_rate_falls():
    waits = {
        loss: configure(f"loss={loss}").trainer.plateau
        for loss in ("cross_entropy", "bce", "bpr", "gbce", "sampled_softmax")
    }
    assert waits == {"cross_entropy": 2, "bce": 5, "bpr": 5, "gbce": 5, "sampled_softmax": 5}
    assert configure("loss=bce", "trainer.plateau=3").trainer.plateau == 3
