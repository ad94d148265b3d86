"""The command of a run: short, of today, and found again."""

import pytest
from omegaconf import OmegaConf

from seqrec.config import apply_variant, hashed_values
from seqrec.evidence.commands import command_of, normal
from seqrec.utils.errors import UserError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("seed=3", ""),
        ("method=plain trainer.optimizer.lr=2e-3", ""),
        ("dataset=beauty loss=bce", "dataset=beauty loss=bce"),
        ("loss=bce trainer.plateau=2", "loss=bce trainer.plateau=2"),
        ("method=markov method.history_decay=auto", "method=markov method.history_decay=auto"),
        ("noise=insert noise.ratio=0 method=cat", "method=cat"),
        ("seed=2 noise=insert method=cat", "noise=insert method=cat noise.ratio=0.1"),
        ("noise=insert noise.seed=7", "noise=insert noise.ratio=0.1 noise.seed=7"),
        ("trainer.max_epochs=9 dim=32 backbone=gru4rec", "backbone=gru4rec dim=32 trainer.max_epochs=9"),
        ("trainer.devices=2", "trainer.devices=2"),
        ("trainer.threads=1 force=true output_dir=there data_dir=here", ""),
        ("method=cl4srec method.views.short=[crop,mask] trainer.clip=5", None),
        ("experiment=lma4rec/ablation variant=without_ssl", None),
    ],
)
def test_a_command_is_short_and_gives_the_same_configuration(composed, given, expected):
    config = apply_variant(composed(*given.split()))
    command = command_of(config, composed)
    assert expected is None or command == expected
    again = apply_variant(composed(*command.split(), f"seed={config.seed}"))
    if "noise.ratio=0 " not in given:
        assert hashed_values(again) == hashed_values(config)


def test_a_key_that_is_no_longer_there_is_an_error(composed):
    config = OmegaConf.create(OmegaConf.to_container(composed(), resolve=False))
    config.trainer.gone = 1
    with pytest.raises(UserError, match=r"trainer\.gone: no such key in today's configuration"):
        command_of(config, composed)
    config = OmegaConf.masked_copy(composed("seed=9"), [key for key in composed() if key != "max_len"])
    with pytest.raises(UserError, match="max_len: no such key in the run's configuration"):
        command_of(config, composed)


def test_commands_are_found_whatever_their_order_and_numbers():
    assert normal("b=.10 a=[1, 2]".replace(", ", ",")) == normal("a=[1,2] b=0.1")
    assert normal("a=true") != normal("a=1")
    assert normal("a=0.1") != normal("a=0.11")


def test_no_path_of_the_machine_comes_into_a_command(composed):
    config = composed("dataset=file", "dataset.path=/home/me/clicks.csv")
    with pytest.raises(UserError, match=r"dataset\.path=/home/me/clicks\.csv: neither a path"):
        command_of(config, composed)
