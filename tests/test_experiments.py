"""Every file of conf/experiment composes, every variant of it can be built, and both run on small data."""

import functools
import itertools
from pathlib import Path

import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.build import build
from seqrec.cli import compose_config
from seqrec.commands import train
from seqrec.config import apply_variant, check, flatten, run_path

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(str(path.relative_to(CONF / "experiment").with_suffix("")) for path in CONF.glob("experiment/*/*.yaml"))
METHODS = ("asarrec", "autosam", "cat", "cl4srec", "coserec", "irl4rec", "lma4rec")
SMALL = ("dataset=synthetic", "dataset.users=60", "dataset.items=120", "dataset.clusters=4", "dim=8", "max_len=12")
SHORT = ("trainer.max_epochs=1", "trainer.batch_size=32", "trainer.progress=false")
FEW = {
    "cat": ("method.stage2_epochs=1",),
    "asarrec/ablation": ("method.warmup_epochs=0",),
    "asarrec/designs": ("method.warmup_epochs=0", "dataset.items=400"),
    "irl4rec/attributes": ("~dataset.attributes",),
}


@functools.cache
def jobs(name: str) -> list:
    """Return the configurations that `python train.py experiment=<name>` runs, on small data."""
    few = FEW.get(name, FEW.get(name.split("/")[0], ()))
    whole = compose_config([f"experiment={name}"], return_hydra_config=True)
    assert (whole.hydra.mode is None) == (not whole.hydra.sweeper.params)
    swept = {key: choices.split(",") for key, choices in (whole.hydra.sweeper.params or {}).items()}
    return [
        configure(f"experiment={name}", *SMALL, *SHORT, *few, *map("=".join, zip(swept, choice, strict=True)))
        for choice in itertools.product(*swept.values())
    ]


def test_every_method_has_a_paper_an_ablation_and_a_sensitivity():
    assert {f"{method}/{kind}" for method in METHODS for kind in ("paper", "ablation", "sensitivity")} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_its_first_lines_say_what_it_is_and_how_to_run_it(name):
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    header = " ".join(line for line in lines if line.startswith("#"))
    assert lines[0] == "# @package _global_"
    assert f"`python train.py experiment={name}`" in header or f"`python train.py experiment={name} " in header


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_variant_can_be_built_and_is_a_run_of_its_own(name):
    paths = [run_path(config) for config in jobs(name)]
    assert len({path.rpartition("-")[2] for path in paths}) == len(paths)
    for config in jobs(name):
        settled = apply_variant(config)
        check(settled)
        assert build(settled).method.trained


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_the_file_reaches_the_configuration(name):
    written = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
    config = configure(f"experiment={name}")
    values = flatten(OmegaConf.to_container(OmegaConf.masked_copy(written, [key for key in written if key in config])))
    assert values == {key: value for key, value in flatten(OmegaConf.to_container(config)).items() if key in values}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_it_runs(name, tmp_path):
    train.job(jobs(name)[0], tmp_path / "run")
    assert (tmp_path / "run" / "DONE").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_all_of_it_runs(name, tmp_path):
    for number, config in enumerate(jobs(name)):
        train.job(config, tmp_path / str(number))
        assert (tmp_path / str(number) / "DONE").exists()


def test_a_variant_changes_what_it_says_and_nothing_else():
    base, *variants = jobs("cat/ablation")
    plain = OmegaConf.to_container(apply_variant(base))
    changed = OmegaConf.to_container(apply_variant(variants[0]))
    assert changed["method"].pop("lambda2") == 0
    assert plain["method"].pop("lambda2") == 0.1
    assert changed.pop("variant") == "level_1"
    assert plain.pop("variant") == "full"
    assert changed == plain
    assert "/sasrec-cat-level_1/seed1-" in run_path(variants[0])
