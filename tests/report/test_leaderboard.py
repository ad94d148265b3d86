"""The leaderboard against its rows."""

import json
import statistics
from pathlib import Path

import pandas as pd

from seqrec.report.committed import METRICS, Results, Wanted
from seqrec.report.leaderboard import as_json, entries, leaderboard

ROOT = Path(__file__).parents[2]
SAME = {"dataset": "d", "data_sha256": "s", "noise": "none", "noise_setting": "", "ratio": "0", "machine": "m"}
SAME |= {"method": "plain", "backbone": "sasrec", "loss": "bce", "commit": "c" * 40, "train_seconds": "60"}


def results_of(tmp_path, *rows):
    frame = pd.DataFrame(
        [
            SAME
            | {f"{split} {name}": "" for split in ("valid", "test") for name in METRICS}
            | {"configuration": str(number), "command": f"lr={setting}", "setting": setting, "seed": str(seed)}
            | {"valid NDCG@10": str(valid), "test NDCG@10": str(test)}
            | changes
            for number, (setting, seed, valid, test, changes) in enumerate(rows)
        ]
    )
    frame.to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "tables.yaml").write_text("tables: {}\n")
    return Results(tmp_path, Wanted(tmp_path / "tables.yaml"))


def test_validation_chooses_the_setting_and_seeds_are_averaged(tmp_path):
    results = results_of(
        tmp_path,
        ("a", 1, 0.3, 0.1, {}),
        ("a", 2, 0.2, 0.4, {}),
        ("b", 1, 0.24, 0.9, {}),  # better on the test set alone
        ("c", 1, 0.1, 0.5, {"method": "cat"}),
        ("d", 1, 0.9, 0.9, {"command": "split=temporal"}),
        ("e", 1, 0.9, 0.9, {"noise": "insert", "noise_setting": "x", "ratio": "0.1"}),
    )
    cat, plain, noisy, other = entries(results)
    assert (plain["setting"], plain["seeds"], plain["trials"], plain["minutes"]) == ("a", [1, 2], 2, 1)
    assert plain["metrics"]["test NDCG@10"] == {"mean": 0.25, "deviation": round(statistics.stdev([0.1, 0.4]), 6)}
    assert "test HR@10" not in plain["metrics"]
    assert (cat["method"], cat["metrics"]["test NDCG@10"]) == ("cat", {"mean": 0.5})
    assert (other["protocol"], noisy["ratio"]) == ("split=temporal", "0.1")
    text = leaderboard(results, {})
    assert text.count("### ") == 1, "boards of one row are in the file alone"
    assert "| plain | sasrec | bce | .2500 ± .2121 |" in text


def test_an_added_argument_is_an_argument(tmp_path):
    commands = ["eval.mask_history=false", "++eval.mask_history=false", "+eval.mask_history=false", "++lr=3"]
    rows = [(str(number), 1, 0.2, 0.1, {"command": command}) for number, command in enumerate(commands)]
    boards = {entry["protocol"]: entry["trials"] for entry in entries(results_of(tmp_path, *rows))}
    assert boards == {"eval.mask_history=false": 3, "": 1}


def test_a_setting_without_the_validation_metric_is_not_chosen(tmp_path):
    (plain,) = entries(results_of(tmp_path, ("a", 1, "", 0.9, {}), ("b", 1, 0.2, 0.1, {})))
    assert (plain["setting"], plain["trials"]) == ("b", 2)


def test_the_committed_file_is_that_of_the_committed_rows():
    results = Results(ROOT / "results", Wanted(ROOT / "results" / "tables.yaml"))
    text = (ROOT / "results" / "leaderboard.json").read_text()
    assert text == as_json(entries(results)), "run scripts/write_results.py"
    runs = results.files["runs"]
    assert {row["setting"] for row in json.loads(text)} <= set(runs.setting)
    assert sum(row["trials"] for row in json.loads(text)) == len(runs.groupby(["setting", "noise_setting", "ratio"]))
