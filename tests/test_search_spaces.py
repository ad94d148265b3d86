"""What a study searches: every yaml's keys and ranges, and what is refused."""

from pathlib import Path

import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.commands import train
from seqrec.config import apply_variant
from seqrec.tuning import study
from seqrec.utils.errors import UserError

pytest.importorskip("optuna")
ROOT = Path(__file__).parents[1]
FILES = sorted(path.stem for path in (ROOT / "conf" / "tune").glob("*.yaml") if path.stem != "base")
BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml") if path.stem != "none")
ENDED = {"data_sha256": "", "epochs": 2}


@pytest.mark.parametrize(
    ("method", "backbone"), [*((name, "sasrec") for name in FILES), *(("plain", name) for name in BACKBONES)]
)
def test_every_search_space_has_keys_that_exist_and_holds_the_setting_as_it_is(method, backbone):
    config = configure(f"tune={method}", f"backbone={backbone}")
    assert config.method.name == method
    space = study.search_space(config)
    defaults = {key: OmegaConf.select(config, key) for key in space}
    ended = ENDED | {"number": 0, "state": "complete", "value": 0.5, "values": defaults, "curve": {"1": 0.5}}
    search = study.Search([ended], 1, 1, space, 5, 5)
    assert len(search.study.get_trials(deepcopy=False)) == 2, "the first trial is outside its ranges"
    assert search.values().keys() == space.keys()
    train.check(study.with_values(apply_variant(config), space, search.values()))


def test_the_methods_of_the_papers_have_search_spaces():
    assert {"plain", "cl4srec", "coserec", "lma4rec", "asarrec", "cat", "autosam", "irl4rec"} <= set(FILES)


def test_a_search_space_with_an_unknown_key_or_backbone_is_refused():
    config = configure("tune=cat")
    OmegaConf.set_struct(config, False)
    config.tune.space["method.waight"] = {"low": 0, "high": 1}
    with pytest.raises(UserError, match=r"tune.space: there is no method.waight with method=cat"):
        study.search_space(config)
    config = configure("tune=plain")
    config.backbone.name = "mine"
    with pytest.raises(UserError, match=r"tune with backbone=mine: tune.backbones has sasrec"):
        study.search_space(config)


RANGES = {  # and one of the values that it may give
    "{low:0,high:0.5}": 0.3,
    "{low:0,high:2,step:0.5}": 1.5,
    "{low:0,high:4}": 3,
}


@pytest.mark.parametrize("given", RANGES)
def test_a_range_is_one_of_whole_numbers_where_both_ends_and_the_step_are(given):
    space = study.search_space(configure("tune=plain", f"+tune.space={{trainer.clip:{given}}}"))  # its value is null
    search = study.Search([], 1, 1, {"trainer.clip": space["trainer.clip"]}, 5, 5)
    (distribution,) = search.trial.distributions.values()
    assert distribution._contains(RANGES[given])
    assert isinstance(search.values()["trainer.clip"], int) == isinstance(RANGES[given], int)


@pytest.mark.parametrize(
    "given", ["3", "{low:1}", "{low:2,high:1}", "{low:a,high:b}", "{low:0,high:1.5,log:true}", "{choices:[]}", "null"]
)
def test_a_range_that_makes_no_sense_is_refused(given):
    with pytest.raises(UserError, match=r"trainer\.clip"):
        study.search_space(configure("tune=plain", f"+tune.space={{trainer.clip:{given}}}"))


@pytest.mark.parametrize("key", ["backbone.dropout", "backbone.attention_dropout"])  # the second follows the first
def test_a_variant_that_sets_what_is_searched_is_refused(key):
    config = configure("tune=plain", f"+variants.slow={{{key}:0.1}}", "variant=slow")
    with pytest.raises(UserError, match=rf"variant=slow.*{key}"):
        study.search_space(config)
