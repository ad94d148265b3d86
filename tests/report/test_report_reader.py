"""Which run directories are read, and why others are left out."""

import json
import math

import numpy as np
import pytest
import yaml

from seqrec.report.write import collect
from seqrec.runs.reader import find
from seqrec.utils.errors import UserError

METRICS = ["HR@10", "NDCG@10"]


def reasons(left_out):
    return {entry.path.name: entry.reason for entry in left_out}


def test_values_per_user_against_a_loop(write_run):
    better, equal = np.array([0, 8, 9, 10, 3]), np.array([1, 4, 1, 2, 2])
    folder = write_run("a", better=better, equal=equal, targets=(np.array([4, 0, 2, 1, 3]), np.arange(1, 6)))
    (run,), left_out = collect([folder.parent], [*METRICS, "MRR"])
    assert left_out == []
    for name, gain in (
        ("HR@10", lambda place: place <= 10),
        ("NDCG@10", lambda place: (place <= 10) / math.log2(place + 1)),
        ("MRR", lambda place: 1 / place),
    ):
        slow = [sum(gain(b + 1 + step) for step in range(e)) / e for b, e in zip(better, equal, strict=True)]
        assert run.values[name] == pytest.approx([slow[1], slow[3], slow[2], slow[4], slow[0]])  # users ascending
        assert run.test[name] == pytest.approx(sum(slow) / 5)


def test_ties_follow_the_runs_rule(write_run):
    folder = write_run("a", {"eval.ties": "pessimistic"}, better=np.array([8] * 3), equal=np.array([4] * 3),
                       targets=(np.arange(3), np.arange(3)))  # fmt: skip
    (run,), _ = collect([folder], METRICS)
    assert run.values["HR@10"].tolist() == [0, 0, 0]


def test_what_is_logged_of_training_and_validation_is_kept(write_run):
    logged = [{"epoch": 1, "train/loss": 2, "train/kept": 0.5, "lr/model": 1}, {"epoch": 2, "valid/NDCG@10": 0.1}]
    (run,), _ = collect([write_run("a", history=logged)], METRICS)
    assert run.history == {"train/loss": ([1], [2]), "train/kept": ([1], [0.5]), "valid/NDCG@10": ([2], [0.1])}


def rewrite(path, load, dump, change):
    content = load(path.read_text())
    change(content)
    path.write_text(dump(content))


def ranks(**changes):
    def damage(folder):
        with np.load(folder / "ranks_test.npz") as found:
            arrays = dict(found)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        np.savez(folder / "ranks_test.npz", **arrays)

    return damage


def without(file, *keys):
    """A run directory without a key of one of its files."""
    load, dump = (yaml.safe_load, yaml.safe_dump) if file.endswith("yaml") else (json.loads, json.dumps)

    def damage(folder):
        def remove(content):
            for key in keys[:-1]:
                content = content[key]
            del content[keys[-1]]

        rewrite(folder / file, load, dump, remove)

    return damage


def replaced(file, content):
    def damage(folder):
        (folder / file).write_bytes(content)

    return damage


MANIFEST = ("data", "warnings", "test_questions", "protocol", "epochs", "data_sha256")
DAMAGES = {
    **{f"no {key} in the manifest": without("manifest.json", key) for key in MANIFEST},
    "no users in the manifest": without("manifest.json", "data", "users"),
    **{f"no {key}": without("config.yaml", key) for key in ("seed", "loss", "method", "dataset", "noise", "eval")},
    "no name of the method": without("config.yaml", "method", "name"),
    "no validation": without("metrics.json", "valid"),
    "configuration is a number": replaced("config.yaml", b"7"),
    "configuration is binary": replaced("config.yaml", b"\x00\xff\xfe"),
    "configuration has a tag": replaced("config.yaml", b"a: !!python/name:os.system x"),
    "configuration has a date": lambda folder: rewrite(
        folder / "config.yaml", yaml.safe_load, lambda c: yaml.safe_dump(c).replace("dim: 64", "dim: 2020-01-01"), dict
    ),
    "manifest is a list": replaced("manifest.json", b"[]"),
    "null in the history": replaced("history.jsonl", b'{"epoch": 1, "valid/NDCG@10": null}'),
    "no epoch in the history": replaced("history.jsonl", b'{"valid/NDCG@10": 1}'),
    "profile is no archive": replaced("position_profile.npz", b"PK"),
    "short ranks": ranks(better=lambda better: better[:-1]),
    "too few users": ranks(**dict.fromkeys(("user", "target", "better", "equal"), lambda array: array[:-1])),
    "negative ranks": ranks(better=lambda better: better * 0 - 1),
    "no equal item": ranks(equal=lambda equal: equal * 0),
    "ranks are a matrix": ranks(user=lambda user: user[None]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_left_out_and_the_others_are_reported(name, write_run, tmp_path):
    good, bad = write_run("good"), write_run("bad", {"seed": 2})
    DAMAGES[name](bad)
    runs, left_out = collect([tmp_path / "runs"], METRICS)
    assert [run.path for run in runs] == [good]
    assert left_out[0].reason.startswith("not readable: ")


def test_directories_are_found_once_and_at_any_depth(write_run, tmp_path):
    first, second = write_run("deep/er/a"), write_run("b", {"seed": 2})
    (tmp_path / "runs" / "empty").mkdir()
    assert find([tmp_path / "runs", first, tmp_path / "runs" / ".." / "runs" / "b"]) == [second, first]
    (tmp_path / "runs" / "run.log").touch()  # what somebody wrote there does not hide the runs below
    assert find([tmp_path / "runs"]) == [tmp_path / "runs", second, first]
    with pytest.raises(UserError, match="nothing-here: no such folder"):
        find([tmp_path / "nothing-here"])


def test_what_is_not_whole_is_left_out_with_its_reason(write_run):
    write_run("good")
    write_run("better", {"seed": 9})
    (write_run("unfinished", {"seed": 2}) / "DONE").unlink()
    (write_run("no-ranks", {"seed": 3}) / "ranks_test.npz").unlink()
    (write_run("cut", {"seed": 4}) / "ranks_test.npz").write_bytes(b"PK\x03\x04 cut off")
    (write_run("bad-json", {"seed": 5}) / "manifest.json").write_text("{")
    (write_run("bad-yaml", {"seed": 6}) / "config.yaml").write_text("a: [")
    (write_run("no-history", {"seed": 7}) / "history.jsonl").unlink()
    write_run("good.old-1", {"seed": 8})
    changed = write_run("changed", {"seed": 10})
    metrics = json.loads((changed / "metrics.json").read_text())
    metrics["test"]["NDCG@10"] += 0.01
    (changed / "metrics.json").write_text(json.dumps(metrics))
    (changed.parent / "only-log").mkdir()
    (changed.parent / "only-log" / "run.log").touch()
    runs, left_out = collect([changed.parent], METRICS)
    assert [run.path.name for run in runs] == ["better", "good"]
    found = reasons(left_out)
    assert found.pop("unfinished") == found.pop("only-log") == "not complete: there is no DONE in it"
    assert found.pop("good.old-1") == "set aside when the run was done again"
    assert "its ranks give" in found.pop("changed")
    assert set(found) == {"no-ranks", "cut", "bad-json", "bad-yaml", "no-history"}
    assert all(reason.startswith("not readable: ") for reason in found.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval.cutoffs": [10]}, "cutoffs is [10], in most runs [5, 10]"),
        ({"eval.ties": "optimistic"}, "ties is optimistic, in most runs expected"),
        ({"eval.mask_history": False}, "mask_history is False, in most runs True"),
        ({"split.name": "temporal", "split.quantile": 0.9}, "split is {'name': 'temporal', 'quantile': 0.9}"),
        ({"dataset.k_core": 5}, "dataset.k_core is 5, in most runs None"),
        ({"dataset.drop_repeats": True}, "dataset.drop_repeats is True, in most runs None"),
        ({"dataset.session_minutes": 30}, "dataset.session_minutes is 30, in most runs None"),
        ({"dataset.keep": {"event": ["view"]}}, "dataset.keep is {'event': ['view']}, in most runs None"),
    ],
)
def test_another_protocol_is_left_out(write_run, changes, said):
    write_run("a-other", changes)
    for seed in (1, 2):  # runs of earlier versions lack some keys
        younger = {"dataset.drop_repeats": False, "dataset.keep": None} if seed == 2 else {}
        folder = write_run(f"b{seed}", {"seed": seed} | younger).parent
    runs, left_out = collect([folder], METRICS)
    assert [run.path.name for run in runs] == ["b1", "b2"]
    assert reasons(left_out)["a-other"].startswith(f"not comparable: {said}")


def test_other_data_and_other_targets_are_left_out(write_run, change_manifest):
    for seed in (1, 2):
        write_run(f"good{seed}", {"seed": seed})
    change_manifest(write_run("other-data"), data_sha256="1" * 64)
    folder = write_run("other-users", targets=(np.arange(40), np.arange(40)[::-1] + 1)).parent
    runs, left_out = collect([folder], METRICS)
    assert len(runs) == 2
    assert reasons(left_out) == {
        "other-data": f"not comparable: data_sha256 is {'1' * 64}, in most runs {'0' * 64}",
        "other-users": "not comparable: other users or targets in ranks_test.npz than most runs",
    }


def test_equally_common_protocols_take_the_first(write_run):
    write_run("b", {"eval.ties": "optimistic"})
    folder = write_run("a").parent
    runs, _ = collect([folder], METRICS)
    assert [run.path.name for run in runs] == ["a"]


def test_repetitions_are_not_averaged_in(write_run):
    write_run("a")
    write_run("b-threads", {"trainer.threads": 8, "output_dir": "elsewhere", "dataset.file": "other-name.txt"})
    write_run("c-ratio-0", {"noise": {"name": "insert", "ratio": 0, "seed": 5}})  # clean by another name
    write_run("d-noise", {"noise": {"name": "insert", "ratio": 0.2, "seed": 1}})
    folder = write_run("e-other-draw", {"noise": {"name": "insert", "ratio": 0.2, "seed": 2}}).parent
    runs, left_out = collect([folder], METRICS)
    assert [run.path.name for run in runs] == ["a", "d-noise", "e-other-draw"]
    assert reasons(left_out) == dict.fromkeys(("b-threads", "c-ratio-0"), f"repeats {folder / 'a'}")


def test_nothing_to_report_is_said(write_run, tmp_path):
    (write_run("a") / "DONE").unlink()
    with pytest.raises(UserError, match=r"no complete run directory in .*left out: .*no DONE"):
        collect([tmp_path / "runs"], METRICS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no complete run directory"):
        collect([tmp_path / "empty"], METRICS)
