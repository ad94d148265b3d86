"""results/plan.yaml: every entry is a command that composes, and what it calls recorded is in runs.csv."""

from pathlib import Path

import pytest
import yaml
from job_setting import configure

from seqrec.config import apply_variant, check, config_hash
from seqrec.report.tables import read_csv

RESULTS = Path(__file__).parents[2] / "results"
PLAN = yaml.safe_load((RESULTS / "plan.yaml").read_text())
RUNS = read_csv(RESULTS / "runs.csv").set_index("configuration")
RECORDED = [entry for entry in PLAN if entry["status"] == "recorded"]
TO_RUN = [entry for entry in PLAN if entry["status"] == "not run"]


def test_each_entry_is_there_once_and_the_runs_to_make_are_few():
    commands = [tuple(sorted(entry["command"].split())) for entry in PLAN]
    assert len(set(commands)) == len(commands) == len(RECORDED) + len(TO_RUN)
    assert sum(len(entry["seeds"]) for entry in TO_RUN) <= 60
    assert all(set(entry) == {"question", "command", "seeds", "status"} for entry in TO_RUN)


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["command"])
def test_what_is_recorded_has_a_row_for_each_seed(entry):
    rows = RUNS.loc[entry["rows"]]
    assert rows.seed.astype(int).tolist() == entry["seeds"]
    assert rows.setting.nunique() == 1
    assert (rows.noise == "none").all()
    if not entry["command"].startswith("experiment="):
        # of an experiment the row has the values instead
        assert set(rows.command) == {entry["command"]}


def composed(entry):
    """The configuration of an entry's first run."""
    return apply_variant(configure(*entry["command"].split(), f"seed={entry['seeds'][0]}"))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, marks=[pytest.mark.slow] * (number % 8 > 0), id=entry["command"])
        for number, entry in enumerate(TO_RUN)
    ],
)
def test_what_is_to_run_composes_and_is_not_recorded(entry):
    config = composed(entry)
    check(config)
    untrained = config.backbone.name == "none"
    assert untrained or config.dim == 64
    assert untrained or config.backbone.name == "sasrec" or "backbone=" in entry["command"]
    named = entry["command"].startswith("experiment=") or config.trainer.max_epochs < 200
    assert untrained or named or config.trainer.max_minutes == 15
    assert config_hash(config) not in RUNS.index
    assert not (RUNS.command == entry["command"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["command"])
def test_what_is_recorded_composes(entry):
    check(composed(entry))
