"""The committed results: rows that follow from one another, and the documents and pictures made of them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from job_setting import configure
from omegaconf import OmegaConf

from seqrec.config import apply_variant
from seqrec.report import documents, figures
from seqrec.report.committed import Results, Wanted
from seqrec.report.documents import filled
from seqrec.runs.reader import noise_of, setting_hash, settings_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed():
    """The committed results."""
    return Results(ROOT / "results", Wanted(ROOT / "results" / "tables.yaml"))


def test_gains_follow_from_the_rows_of_their_runs(committed):
    runs = committed.files["runs"].set_index(["setting", "noise_setting", "ratio", "seed"])
    for row in committed.files["gains"].to_dict("records"):
        ours, theirs = (
            np.mean(
                [
                    float(runs.loc[(row[side], row["noise_setting"], row["ratio"], seed), f"test {row['metric']}"])
                    for seed in row["seeds"].split()
                ]
            )
            for side in ("setting", "against")
        )
        assert float(row["gain"]) == pytest.approx(ours / theirs - 1, abs=1e-4)
        assert float(row["low"]) <= float(row["gain"]) <= float(row["high"])


def test_committed_files_are_consistent(committed):
    runs, specs = committed.files["runs"], committed.wanted.tables
    assert not runs.configuration.duplicated().any()
    assert not runs.duplicated(["setting", "noise_setting", "ratio", "seed"]).any()
    for name in ("training", "perturbed", "detection"):
        assert set(committed.files[name].configuration) <= set(runs.configuration)
    wanted = {row["setting"] for spec in specs.values() for row in spec["rows"] if "setting" in row}
    assert wanted <= set(runs.setting)
    assert set(committed.wanted.noises.values()) == set(runs.noise_setting) - {""}


def setting_of(command, runs):
    """The setting that arguments of train.py stand for, on the data of its runs."""
    config = OmegaConf.to_container(apply_variant(configure(*command.split())), resolve=True)
    assert noise_of(config) == {"name": "none"}
    trained = runs.parameters.iloc[0] != "0"
    return setting_hash(settings_of(config, trained), runs.data_sha256.iloc[0])


def short_commands():
    """The short commands of results/tables.yaml; all but the first of each experiment are slow to compose."""
    seen = set()
    for setting, command in Wanted(ROOT / "results" / "tables.yaml").commands.items():
        first = command.split()[0]
        yield pytest.param(setting, command, marks=[pytest.mark.slow] if first in seen or "/" not in first else [])
        seen.add(first)


@pytest.mark.parametrize(("setting", "command"), list(short_commands()))
def test_a_short_command_gives_its_setting(setting, command, committed):
    runs = committed.files["runs"]
    assert setting_of(command, runs[runs.setting == setting]) == setting


def test_the_documents_are_those_of_the_committed_results(committed):
    used = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        assert filled(text, committed) == text, f"{path}: run scripts/write_results.py"
        used |= {match.group(2) for match in documents.BLOCK.finditer(text)}
    assert used == set(committed.wanted.tables)


def curves_of(svg):
    """The points of each curve of an SVG."""
    curves = [node for node in ElementTree.fromstring(svg).iter() if node.get("class") == "curve"]
    points = {curve.get("data-row"): [node for node in curve.iter() if node.get("data-x")] for curve in curves}
    return {row: [(float(n.get("data-x")), float(n.get("data-y"))) for n in nodes] for row, nodes in points.items()}


def test_every_point_of_a_picture_is_a_figure_of_its_table(committed):
    # versions of matplotlib write other bytes, so it is the points that are compared
    for name, spec in committed.wanted.tables.items():
        if not spec.get("picture"):
            continue
        curves = curves_of((ROOT / "docs" / "pictures" / f"{name}.svg").read_text())
        assert curves == curves_of(figures.PICTURES[spec["kind"]](committed, spec)), (
            f"{name}: run scripts/write_results.py"
        )
        table = documents.KINDS[spec["kind"]](committed, spec)
        if spec["kind"] == "runs":
            gains = re.findall(r"([+-][\d.]+) % \[", table)
            assert [f"{y:+.1f}" for ((_, y),) in curves.values()] == gains
            continue
        for label, points in curves.items():
            (line,) = re.findall(rf"^\| {re.escape(label)} \| .*$", table, re.MULTILINE)
            figures_of_line = re.findall(r"(?<=\| )\.\d{4}", line)
            assert [f"{y:.4f}".lstrip("0") for _, y in points] == figures_of_line


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=lambda page: page.stem)
def test_the_page_of_a_method_opens_with_a_verdict_and_a_picture(page, committed):
    opening, text = page.read_text().split("\n## ")[0], page.read_text()
    assert re.findall(r"^- \*\*(\w+):\*\* ", opening, re.MULTILINE) == ["Claimed", "Public", "Measured"]
    (picture,) = re.findall(r"^!\[.+\]\(\.\./pictures/([\w-]+)\.svg\)$", opening, re.MULTILINE)
    assert committed.wanted.tables[picture]["picture"]
    assert len(text.splitlines()) < 200


@pytest.mark.parametrize(
    ("name", "dataset", "loss"),
    [
        ("plain/strongest", "beauty", "cross_entropy"),
        ("plain/strongest_sports", "sports", "cross_entropy"),
        ("asarrec/strongest", "beauty", "bce"),
        ("coserec/strongest_sports", "sports", "bce"),
        ("lma4rec/strongest_sports", "sports", "bce"),
    ],
)
def test_a_strongest_setting_of_sasrec_is_the_best_of_the_committed_results(name, dataset, loss, committed):
    runs = committed.files["runs"]
    chosen = runs[
        (runs.dataset == dataset) & (runs.noise == "none") & (runs.loss == loss) & (runs.method == name.split("/")[0])
    ]
    chosen = chosen[chosen.backbone.str.startswith("sasrec")]
    best = chosen.groupby("setting")["valid NDCG@10"].agg(lambda values: values.astype(float).mean()).idxmax()
    assert setting_of(f"experiment={name}", chosen) == best
