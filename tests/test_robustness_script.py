"""What the command robustness prints and writes, and what it refuses."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
from robustness_setting import configure

from seqrec.commands import noise_detection, train
from seqrec.commands.robustness import main, printed, write
from seqrec.utils.errors import UserError

CELLS = [
    {
        "attack": "clean",
        "draws": 1,
        "mean": {"changed": 0.0, "HR@5": 0.25},
        "std": {"changed": math.nan, "HR@5": math.nan},
    },
    {
        "attack": "insert",
        "ratio": 0.1,
        "draws": 2,
        "mean": {"changed": 0.5, "HR@5": 0.2},
        "std": {"changed": 0.1, "HR@5": 0.01},
    },
    {
        **{"attack": "random", "position": "-2", "k": 3, "draws": 1},
        **{"mean": {"changed": 1.0, "HR@5": math.nan}, "std": {"changed": math.nan, "HR@5": math.nan}},
    },
]


def test_the_table(capsys):
    assert list(printed(CELLS)) == CELLS
    assert capsys.readouterr().out.splitlines() == [
        "| input | changed | HR@5 |",
        "| --- | ---: | ---: |",
        "| clean | 0.0 % | 0.2500 |",
        "| insert 0.1 | 50.0 % | 0.2000 ± 0.0100 |",
        "| random at -2, k=3 | 100.0 % | - |",
    ]


def test_the_files(tmp_path):
    write(tmp_path, {"part": "test"}, CELLS)
    assert {path.name for path in tmp_path.iterdir()} == {"robustness.json", "robustness.csv"}
    written = json.loads((tmp_path / "robustness.json").read_text(), parse_constant=pytest.fail)
    assert written["part"] == "test"
    assert written["cells"][1] == CELLS[1]
    assert written["cells"][2]["mean"] == {"changed": 1.0, "HR@5": None}
    assert (tmp_path / "robustness.csv").read_text().splitlines() == [
        "attack,position,k,ratio,draws,changed,HR@5,changed std,HR@5 std",
        "clean,,,,1,0.0,0.25,,",
        "insert,,,0.1,2,0.5,0.2,0.1,0.01",
        "random,-2,3,,1,1.0,,,",
    ]


def call(*arguments):
    """Run the command in this process."""
    main(list(map(str, arguments)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of two finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("plain", "markov"):
        train.job(configure(name), folder / name)
    return folder / "plain", folder / "markov"


def test_the_script_examines_finished_runs(runs, capsys):
    capsys.readouterr()
    call(
        *runs, "--noise", "insert,swap+delete", "--ratio", "0,.3", "--draws", "2", "--positions=last,-2", "--worst", "3"
    )
    shown = capsys.readouterr().out
    for folder in runs:
        assert f"{folder}, test" in shown
        written = json.loads((folder / "robustness.json").read_text())
        labels = [(cell["attack"], cell.get("ratio"), cell.get("position")) for cell in written["cells"]]
        assert labels == [
            ("clean", None, None),
            *[(name, ratio, None) for name in ("insert", "swap+delete") for ratio in (0, 0.3)],
            *[(name, None, position) for position in ("last", "-2") for name in ("random", "worst of 3")],
        ]
        metrics = json.loads((folder / "metrics.json").read_text())["test"]
        clean = written["cells"][0]["mean"]
        assert (clean["HR@10"], clean["NDCG@10"]) == (metrics["HR@10"], metrics["NDCG@10"])
        assert written["cells"][1]["mean"] == clean
        assert written["users"] == 200
        with (folder / "robustness.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert [float(row["NDCG@10"]) for row in rows] == [cell["mean"]["NDCG@10"] for cell in written["cells"]]
    assert shown.count("| insert 0.3 |") == 2
    before = (runs[1] / "robustness.json").read_bytes()
    call(
        runs[1],
        "--noise",
        "insert,swap+delete",
        "--ratio",
        "0,.3",
        "--draws",
        "2",
        "--positions=last,-2",
        "--worst",
        "3",
    )
    assert (runs[1] / "robustness.json").read_bytes() == before


def test_the_script_asks_the_validation_part_with_another_cutoff(runs, capsys):
    call(runs[0], "--part", "valid", "--cutoff", "20", "--positions=last", "--draws", "1", "--gradient")
    written = json.loads((runs[0] / "robustness.json").read_text())
    metrics = json.loads((runs[0] / "metrics.json").read_text())["valid"]
    assert [cell["attack"] for cell in written["cells"]] == ["clean", "random", "gradient"]
    assert written["cells"][0]["mean"]["NDCG@20"] == metrics["NDCG@20"]
    assert f"{runs[0]}, valid" in capsys.readouterr().out


@pytest.mark.parametrize("command", [main, noise_detection.main], ids=["robustness", "noise_detection"])
def test_a_run_that_is_not_complete_gets_no_figures_of_weights_that_it_may_not_keep(runs, tmp_path, command):
    unfinished = Path(shutil.copytree(runs[0], tmp_path / "unfinished"))
    (unfinished / "DONE").unlink()
    before = sorted(unfinished.iterdir())
    with pytest.raises(UserError, match=f"{unfinished}: the run is not complete"):
        command([str(unfinished)])
    assert sorted(unfinished.iterdir()) == before
