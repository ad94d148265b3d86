"""The page: its points are the table's figures, and it needs nothing but itself."""

import csv
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from seqrec.report.figures import Series, inline, lines
from seqrec.report.write import report
from seqrec.utils.errors import UserError

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects curves' points, table cells, ids, links, text, and checks that tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.points, self.cells, self.ids, self.links = [], [], {}, [], []
        self.resources, self.texts, self.buttons = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "xlink:href") if name in given]
        self.resources += [value for name, value in attributes if name in ("src", "srcset", "data", "action")]
        self.resources += [tag] if tag in ("link", "img", "iframe", "object", "embed") else []
        if tag == "g" and given.get("class") in ("curve", "band"):
            self.points.append((given["data-row"], []))
        if tag == "use" and "data-x" in given:
            self.points[-1][1].append(tuple(float(value) for name, value in attributes if name.startswith("data-")))
        if tag == "button":
            self.buttons.append(given["data-row"])
        if tag == "td" and "data-ratio" in given:
            key = (given["data-row"], float(given["data-ratio"]), given["data-metric"])
            self.cells[key] = float(given["data-value"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def made(shared_grid):
    """A report on the runs; the folder and the parsed page."""
    output = shared_grid.parent / "report"
    page = report([shared_grid], output, ["HR@10"], "NDCG@10", None, None)
    assert page == output / "index.html"
    return page.parent, Page(page.read_text())


def records(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_every_curve_has_the_tables_figures_at_every_ratio(made):
    folder, page = made
    table = {(line["row"], float(line["ratio"]), line["metric"]): line for line in records(folder / "table-insert.csv")}
    drawn = [(row, points) for row, points in page.points if points]
    assert [row for row, _ in drawn] == ["popularity", "plain", "cat"] * 2  # for HR@10 and for NDCG@10
    for number, (row, points) in enumerate(drawn):
        metric = ("HR@10", "NDCG@10")[number // 3]
        assert [x for x, *_ in points] == [0, 0.2, 0.4]
        for x, *figures in points:
            line = table[row, x, metric]
            assert figures == [float(line[name]) for name in ("mean", "band low", "band high")]
            assert page.cells[row, x, metric] == figures[0]
    assert len(page.cells) == len(table) == 18


def test_a_legend_can_hide_every_curve_and_its_band(made):
    _, page = made
    assert page.buttons == ["popularity", "plain", "cat"]
    assert sorted(row for row, _ in page.points) == sorted(page.buttons * 4)  # a curve and a band for each metric


def test_the_page_needs_nothing_from_outside(made):
    folder, page = made
    text = (folder / "index.html").read_text()
    assert page.resources == []
    assert not re.search(r"https?:|[\"'(]//[a-z]|@import|fetch\(|XMLHttp|import\(", text)
    assert all(target in page.ids for target in re.findall(r"url\(#([^)]*)\)", text))
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link[1:] in page.ids
    assert len(page.ids) == len(set(page.ids))


def test_what_is_left_out_is_named_at_the_top_and_listed(made):
    folder, page = made
    text = "\n".join(page.texts)
    assert "1 of 19 run directories are left out" in text
    assert "broken <b>&" in text  # escaped, so it came through as text
    assert text.index("Before you read on") < text.rindex("Training noise: insert")
    assert "Slices by history and popularity are left out: dataset=made: made.txt is not in " in text
    assert [line["reason"] for line in records(folder / "left-out.csv")] == ["not complete: there is no DONE in it"]


def test_pictures_of_training_and_of_positions_are_in_the_page(made):
    _, page = made
    for text in ("validation NDCG@10", "weight_newest", "items back from the newest", "matrix, insert 0.4"):
        assert text in page.texts


def test_maps_of_the_newest_positions_in_the_first_run_of_each_condition(made):
    folder, _ = made
    lines = records(folder / "maps.csv")
    assert len(lines) == 20 + (20 + 19) + (20 + 19)  # the diagonal, and moves by one position where there is noise
    values = {
        (line["condition"], int(line["from position"]), int(line["to position"])): float(line["mean"]) for line in lines
    }
    assert values["insert 0.4", 1, 0] == pytest.approx(0.4)  # ratio / seed, of seed 1
    assert values["insert 0.2", 19, 18] == pytest.approx(0.2)
    assert values["clean", 0, 0] == 0.5
    assert ("insert 0.4", 0, 1) not in values


def test_all_files_are_there_and_the_same_again(made, shared_grid):
    folder, _ = made
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names = ("curve-insert-HR-10", "curve-insert-NDCG-10", "training-1", "own-values-1", "positions-1", "maps-1")
    tables = ["gain-insert", "left-out", "noise-floor", "robustness-insert", "significance-insert", "maps"]
    assert set(files) == {
        *(f"figures/{name}.{ending}" for name in names for ending in ("png", "svg", "pdf")),
        *(f"table-insert.{ending}" for ending in ("md", "csv", "tex")),
        *(f"{name}.csv" for name in tables),
        "index.html",
    }
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert all(files[name].startswith(starts[name[-3:]]) for name in files if name.startswith("figures/"))
    (folder / "table-delete.md").touch()  # of an earlier report on other runs
    again = report([shared_grid], folder, ["HR@10"], "NDCG@10", "plain", None).parent
    assert {
        path.relative_to(again).as_posix(): path.read_bytes() for path in again.rglob("*") if path.is_file()
    } == files


def test_another_page_is_not_overwritten(shared_grid, tmp_path):
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(UserError, match=r"index\.html is no report's page"):
        report([shared_grid], tmp_path, ["HR@10"], "NDCG@10", "plain", None)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_any_label_can_be_drawn():
    label = """a_seed=${seed}, b=${seed} & <1> "it's" curve:"""
    svg = lines([Series(label, [0, 0.5], [0.1, np.float64(0.05)])], "ratio", "HR@10", [0, 0.5], None)
    (curve,) = [node for node in ElementTree.fromstring(svg).iter() if node.get("class") == "curve"]
    assert curve.get("data-row") == label
    assert label in [node.text for node in ElementTree.fromstring(svg).iter()]
    assert Page(inline(svg, label)).texts.count(label)
