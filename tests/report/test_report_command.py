"""The command, and slices on data that is there."""

import csv
import itertools
import sys

import numpy as np
import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.commands.report import main
from seqrec.report.slices import slice_of
from seqrec.report.write import report
from seqrec.utils.errors import UserError
from seqrec.utils.instantiate import make


@pytest.fixture(scope="module")
def synthetic():
    """Configuration, data set and split of a small generated data set."""
    config = configure("dataset.users=60", "dataset.items=120", "dataset.clusters=4")
    values = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("dataset", "split")}
    dataset = make(values["dataset"], name="synthetic").load()
    return values, dataset, make(values["split"])(dataset)


@pytest.fixture
def on_synthetic(synthetic, write_run, change_manifest):
    """Clean and noisy runs on generated data; the folder and the two arrays of `better`."""
    values, dataset, split = synthetic
    generator, written = np.random.default_rng(0), {}
    for ratio in (0, 0.3):
        noise = {"name": "delete", "ratio": ratio, "seed": 1} if ratio else {"name": "none"}
        written[ratio] = generator.poisson(6, len(split.test.user))
        folder = write_run(
            f"r{ratio}",
            {**values, "noise": noise},
            better=written[ratio],
            targets=(split.test.user, split.test.target),
        )
        change_manifest(folder, data_sha256=dataset.sha256)
    return folder.parent, written


def test_slices_against_a_loop(on_synthetic, synthetic, tmp_path):
    folder, written = on_synthetic
    _, dataset, split = synthetic
    report([folder], tmp_path / "out", ["HR@10"], "NDCG@10", None, None)
    trained = [
        item
        for user in range(dataset.num_users)
        for item in dataset.items[dataset.offsets[user] : dataset.offsets[user + 1] - 2].tolist()
    ]
    for name, value_of, edges in (
        ("history", lambda user, _: dataset.offsets[user + 1] - dataset.offsets[user] - 1, [1, 5, 10, 20, 50, 10**9]),
        ("popularity", lambda _, target: trained.count(target), [0, 1, 5, 20, 100, 10**9]),
    ):
        with (tmp_path / "out" / f"slices-{name}.csv").open() as stream:
            lines = list(csv.DictReader(stream))
        assert [(line["row"], line["noise"], float(line["ratio"])) for line in lines] == [
            ("plain", "clean", 0),
            ("plain", "delete", 0.3),
        ]
        for line in lines:
            expected = []
            for first, end in itertools.pairwise(edges):
                gains = [
                    1 / np.log2(better + 2) if better < 10 else 0
                    for user, target, better in zip(
                        split.test.user, split.test.target.tolist(), written[float(line["ratio"])], strict=True
                    )
                    if first <= value_of(user, target) < end
                ]
                expected += [sum(gains) / len(gains)] if gains else []
            assert [float(value) for value in list(line.values())[3:]] == pytest.approx(expected)
            assert len(expected) > 1


def test_names_of_slices():
    number, names = slice_of(np.array([0, 1, 4, 5, 99, 100, 5000]), (0, 1, 5, 20, 100))
    assert number.tolist() == [0, 1, 1, 2, 3, 4, 4]
    assert names == ["0", "1 to 4", "5 to 19", "20 to 99", "100 or more"]


def test_other_data_leaves_the_slices_out(on_synthetic, tmp_path, change_manifest):
    folder, _ = on_synthetic
    for run in folder.iterdir():
        change_manifest(run, data_sha256="f" * 64)
    page = report([folder], tmp_path / "out", ["HR@10"], "NDCG@10", None, None)
    text = page.read_text()
    assert "Slices by history and popularity are left out: " in text
    assert f"the run had data of sha256 {'f' * 64}" in text
    assert not (tmp_path / "out" / "slices-history.csv").exists()


def test_missing_data_is_not_downloaded(write_run, tmp_path, monkeypatch):
    monkeypatch.setattr("seqrec.data.source.download", lambda *_: pytest.fail("a report downloads nothing"))
    folder = write_run("a", {"dataset.url": "http://nowhere.invalid/made.txt", "cache_dir": str(tmp_path)})
    page = report([folder], tmp_path / "out", ["HR@10"], "NDCG@10", None, str(tmp_path))
    assert f"made.txt is not in {tmp_path}" in page.read_text()


def test_the_command(write_run, tmp_path, capsys):
    output = tmp_path / "out"
    main([str(write_run("a")), "--output", str(output), "--metrics", "HR@5", "--tested", "NDCG@5"])
    assert capsys.readouterr().out == f"{output / 'index.html'}\n"
    assert "HR@5, clean | NDCG@5, clean |" in (output / "table-clean.md").read_text()


def test_without_matplotlib_the_command_names_what_to_install(write_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in ("figures", "page"):
        monkeypatch.delitem(sys.modules, f"seqrec.report.{module}", raising=False)
        monkeypatch.delattr(f"seqrec.report.{module}", raising=False)
    monkeypatch.delitem(sys.modules, "seqrec.report.write", raising=False)
    with pytest.raises(UserError, match="pictures need matplotlib: pip install -e"):
        main([str(write_run("a"))])
