"""The measurements of a GPU: refused without one, within their time, and every line of them on a CPU."""

import csv
import subprocess

import pytest
import torch

from seqrec.commands import benchmark_gpu as command
from seqrec.utils.errors import UserError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "gpu.csv"


def rows_of(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_without_a_gpu_it_is_refused(monkeypatch, out):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU"):
        command.main(["--csv", str(out)])
    assert not out.exists()


def test_what_no_longer_fits_is_left_out_and_said(monkeypatch, out):
    now, given = [0.0], []

    def run(arguments, timeout, **_):
        given.append(timeout)
        now[0] += timeout
        raise subprocess.TimeoutExpired(arguments, timeout)

    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr(command, "trained_methods", lambda: ["cat", "plain"])
    command.main(["--accelerator", "cpu", "--minutes", "2", "--most", "50", "--csv", str(out)])
    rows = rows_of(out)
    assert given == [50, 50, 20]
    assert [row["note"] for row in rows[:4]] == [*(f"stopped after {n:.0f} s" for n in given), "left out: no time left"]
    assert len(rows) == len(command.plan("cpu", small=False))
    assert [row["method"] for row in rows if row["data"] == "million"] == ["", "plain", "cat"]


@pytest.mark.slow
def test_a_measurement_that_fails_says_why(out, monkeypatch):
    monkeypatch.setattr(command, "SMALL", {**command.SMALL, "beauty": ("loss=none",)})
    command.main(["--accelerator", "cpu", "--small", "--only", "training beauty autosam", "--csv", str(out)])
    (row,) = rows_of(out)
    assert "choose a backbone and a loss" in row["note"]
    assert row["targets_per_second"] == ""


@pytest.mark.slow
def test_everything_is_measured_on_tiny_data(out):
    command.main(["--accelerator", "cpu", "--small", "--most", "300", "--csv", str(out)])
    rows = rows_of(out)
    assert [row["note"] for row in rows] == [""] * len(rows)
    for row in rows:
        assert float(row["targets_per_second"]) > 0
        assert float(row["peak_gb"]) > 0
        assert float(row["parity"]) < 1e-5
    assert {row["method"] for row in rows if row["what"] == "training" and row["data"] == "million"} == {
        *("asarrec", "autosam", "cat", "cl4srec", "coserec", "irl4rec", "lma4rec", "plain")
    }
    assert {row["method"] for row in rows if row["what"] == "softmax"} == {
        *("seqrec, chunk 128", "seqrec, chunk 1024", "torch", "torch, chunked")
    }
    assert {(row["precision"], row["compiled"]) for row in rows if row["what"] == "training"} == {
        (precision, compiled) for precision in ("32-true", "bf16-mixed") for compiled in ("", "eager")
    }
