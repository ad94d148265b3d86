"""What a configuration stands for, and which ones are refused before anything is run."""

from pathlib import Path

import pytest
from job_setting import CONF, SMALL, configure

from seqrec.commands import train
from seqrec.config import check, config_hash, run_path
from seqrec.utils.errors import UserError


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.batch_size=-3"], "trainer.batch_size=-3: must be a whole number above 0"),
        (["trainer.batch_size=big"], "trainer.batch_size=big: must be a whole number above 0"),
        (["trainer.batch_size=2.5"], "trainer.batch_size=2.5: must be a whole number above 0"),
        (["seed=-1"], "seed=-1: must be a whole number from 0"),
        (["eval.cutoffs=10"], r"eval.cutoffs=10: must be a list of whole numbers above 0"),
        (["eval.cutoffs=[]"], r"eval.cutoffs=\[\]: must be a list"),
        (["eval.cutoffs=[0,10]"], r"eval.cutoffs=\[0, 10\]: must be a list"),
        (["eval.ties=first"], "eval.ties=first: must be expected, pessimistic or optimistic"),
        (["eval.cutoffs=[5,20]"], r"trainer.monitor=NDCG@10: .*HR@5.*NDCG@20"),
        (["trainer.monitor=ndcg@10"], "did you mean 'NDCG@10'"),
        (["trainer.optimizer.lr=0"], "trainer.optimizer.lr=0: must be a number above 0"),
        (["trainer.optimizer.lr=fast"], "trainer.optimizer.lr=fast: must be a number above 0"),
        (["trainer.schedule=cosin"], "trainer.schedule=cosin: must be constant, linear or cosine"),
        (["backbone.dropout=1.0"], "backbone.dropout=1.0: must be a number from 0 and below 1"),
        (["loss=bce", "loss.negatives=0"], "loss.negatives=0: must be a whole number above 0"),
        (["loss.chunk=0"], "loss.chunk=0: must be a whole number above 0"),
        (["loss=sampled_softmax", "loss.power=-1"], "loss.power=-1: must be a number from 0"),
        (["loss=gbce", "loss.calibration=2"], "loss.calibration=2: must be a number from 0 to 1"),
        (["split=temporal", "split.quantile=1.5"], "split.quantile=1.5: must be a number above 0 and below 1"),
        (["backbone.count_from=END"], "backbone.count_from=END: must be start or end"),
        (["backbone.activation=tanh"], "backbone.activation=tanh: must be gelu or relu"),
        (
            ["method=autosam", "method.sampler.attention_dropout=1.5"],
            "method.sampler.attention_dropout=1.5: must be a number from 0 to 1",
        ),
        (["method=autosam", "method.sampler.dropout=-1"], "method.sampler.dropout=-1: must be a number from 0 to 1"),
        (["backbone.norm_first=1"], "backbone.norm_first=1: must be true, false or original"),
        (["backbone.layers=two"], "backbone.layers=two: must be a whole number above 0"),
        (["backbone.heads=0"], "backbone.heads=0: must be a whole number above 0"),
        (["trainer.threads=0"], "trainer.threads=0: must be null or a whole number above 0"),
        (["trainer.precision=16-mixed"], "trainer.precision=16-mixed: must be 32-true or bf16-mixed"),
        (
            ["trainer.accelerator=abacus"],
            "trainer.accelerator=abacus trainer.devices=1: You selected an invalid accelerator",
        ),
        (["method=cl4srec", "method.weight=abc"], "method.weight=abc: must be a number"),
        (["method=cl4srec", "method.cosine=1"], "method.cosine=1: must be true or false"),
        (["method=cl4srec", "method.views.threshold=x"], "method.views.threshold=x: must be a whole number"),
        (["method=asarrec", "method.warmup_epochs=2.5"], "method.warmup_epochs=2.5: must be a whole number"),
        (["method=asarrec", "method.clip=no"], "method.clip=no: must be a number or null"),
        (["trainer.progress=maybe"], "trainer.progress=maybe: must be null, true or false"),
        (["seed=18446744073709551616"], "seed=18446744073709551616: must be a whole number from 0 and below 2.63"),
        (["trainer.optimizer=null"], "trainer.optimizer=None: must be a group with _target_ and lr"),
        (["trainer.optimizer.weight_decay=-1"], "trainer.optimizer: Invalid weight_decay value: -1"),
        (["trainer.optimizer.betas=[2,.9]"], "trainer.optimizer: Invalid beta parameter"),
        (["trainer.optimizer.betas=.9"], "trainer.optimizer: "),
        (["trainer.optimizer._target_=torch.optim.SGD", "dry_run=true"], "unexpected keyword argument 'betas'"),
        (["method=asarrec", "method.augmenter_optimizer.lr=-1"], "method.augmenter_optimizer: Invalid learning rate"),
        (["trainer.optimizer.weight_decay=some"], "trainer.optimizer.weight_decay=some: must be a number"),
        (["dim=63"], "dim=63 cannot be shared by backbone.heads=2"),
        (["method=popularity", "loss=bce"], "method=popularity with backbone=none loss=bce: it counts"),
        (["method=markov", "backbone=gru4rec"], "method=markov with backbone=gru4rec loss=none: it counts"),
        (["loss=none"], "method=plain with backbone=sasrec loss=none: it is trained"),
        (
            ["trainer.optimizer._target_=os.system"],
            "_target_=os.system: not a class of seqrec, torch.optim or a trusted package",
        ),
        (["method._target_=seqrec.build.torch.load"], "_target_=seqrec.build.torch.load: not a class"),
        (["method._target_=seqrec.build.Fabric"], "_target_=seqrec.build.Fabric: not a class"),
        (["+backbone.colour=red"], "colour"),
        (["+trainer.max_epoch=3"], "trainer.max_epoch: no such key; did you mean 'trainer.max_epochs'?"),
        (["+eval.cutoff=5"], "eval.cutoff: no such key; did you mean 'eval.cutoffs'?"),
        ([*SMALL, "eval.cutoffs=[10,500]"], "K=500 is larger than the catalogue of 120 items"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_reason(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        train.job(configure(*overrides), tmp_path / "run")


@pytest.mark.parametrize("path", sorted((Path(CONF) / "backbone").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_backbone_as_it_is_passes_the_check(path):
    untrained = ["method=popularity"] if path.stem == "none" else []
    check(configure(f"backbone={path.stem}", *untrained))


def test_the_original_sasrec_differs_from_the_other_in_its_residual_sums_alone():
    plain, original = (dict(configure(f"backbone={name}").backbone) for name in ("sasrec", "sasrec_original"))
    assert plain | {"name": "sasrec_original", "norm_first": "original"} == original


def test_impossible_combinations_are_refused_before_data_is_read(tmp_path, monkeypatch):
    from seqrec.data.synthetic import Synthetic

    monkeypatch.setattr(Synthetic, "load", lambda *_: pytest.fail("the data was read"))
    with pytest.raises(UserError, match="it counts"):
        train.job(configure("method=popularity", "loss=bce"), tmp_path / "run")


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
