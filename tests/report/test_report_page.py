"""The page: its points are the table's figures, and it needs nothing but itself."""

import csv
import re
from html.parser import HTMLParser

import pytest

from seqrec.report.chart import ticks
from seqrec.report.write import report
from seqrec.utils.errors import UserError

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects curves' points, table cells, ids, links, text, and checks that tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.points, self.cells, self.ids, self.links = [], {}, {}, [], []
        self.resources, self.texts, self.curve, self.lines, self.squares = [], [], None, [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.resources += [
            value for name, value in attributes if name in ("src", "srcset", "data", "action", "xlink:href")
        ]
        self.resources += [tag] if tag in ("link", "img", "iframe", "object", "embed", "image", "use") else []
        if tag == "g" and given.get("class") == "curve":
            self.curve = given
            self.lines.append(given)
        if tag == "circle":
            place = (self.curve["data-noise"], self.curve["data-row"], self.curve["data-metric"])
            self.points.setdefault(place, []).append(
                tuple(float(given[f"data-{n}"]) for n in ("x", "y", "low", "high"))
            )
        self.squares += tag == "rect" and given["class"] == "cell"
        if "data-value" in given:
            float(given["data-value"])
        if tag == "td" and "data-ratio" in given:
            place = tuple(given[f"data-{name}"] for name in ("noise", "row", "metric"))
            self.cells.setdefault(place, []).append((float(given["data-ratio"]), float(given["data-value"])))

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


def test_every_curve_has_the_tables_figures_at_every_ratio(made):
    folder, page = made
    assert len(page.points) == 3 * 2
    with (folder / "table-insert.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    for place, points in page.points.items():
        assert [x for x, *_ in points] == [0, 0.2, 0.4]
        assert [(x, y) for x, y, *_ in points] == page.cells[place]
        for x, y, low, high in points:
            (line,) = [
                line
                for line in lines
                if (line["noise"], line["row"], line["metric"]) == place and float(line["ratio"]) == x
            ]
            assert [y, low, high] == [float(line[name]) for name in ("mean", "band low", "band high")]
    assert set(page.cells) == set(page.points)


def test_the_page_needs_nothing_from_outside(made):
    folder, page = made
    text = (folder / "index.html").read_text()
    assert page.resources == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|import\(", text)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))


def test_what_is_left_out_is_said_at_the_top_and_listed(made):
    folder, page = made
    text = "\n".join(page.texts)
    assert "1 of 19 run directories are left out" in text
    assert "broken <b>&" in text  # escaped, so it came through as text
    assert text.index("Before you read on") < text.rindex("Training noise: insert")
    assert "not complete: there is no DONE in it" in text
    assert "Slices by history and popularity are left out: dataset=made: made.txt is not in " in text
    with (folder / "left-out.csv").open() as stream:
        assert [line["reason"] for line in csv.DictReader(stream)] == ["not complete: there is no DONE in it"]


def test_training_curves_of_all_runs_and_of_the_methods_own_values(made):
    _, page = made
    text = "".join(page.texts)
    assert "weight_newest" in text
    own = [line for line in page.lines if "data-row" not in line]
    # validation of plain and cat, weight_newest and weight by place of cat; popularity was not trained
    assert len(own) == 12 + 6 + 6


def test_maps_of_the_newest_places_in_the_first_run_of_each_condition(made):
    _, page = made
    assert page.squares == 20 + (20 + 19) + (20 + 19)  # the diagonal, and moves by one place where there is noise
    titles = [text for text in page.texts if text.startswith("matrix, ")]
    assert titles == ["matrix, clean", "matrix, insert 0.2", "matrix, insert 0.4"]
    # row 0 of a profile is the newest place to which an item goes, its column 1 the place before, where it comes from
    assert page.texts.count("1 to 0: 0.2000") == 1  # ratio / seed, of seed 1
    assert page.texts.count("1 to 0: 0.4000") == 1
    assert page.texts.count("0 to 0: 0.5000") == 3
    assert page.texts.count("19 to 18: 0.4000") == 1
    assert "0 to 1: 0.4000" not in page.texts


def test_all_files_are_there_and_the_same_again(made, shared_grid):
    folder, _ = made
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pictures = [
        f"figures/{name}"
        for name in (
            *("curve-insert-HR-10", "curve-insert-NDCG-10", "training-1", "own-values-1", "places-1", "maps-1"),
        )
    ]
    tables = ["gain-insert.csv", "left-out.csv", "noise-floor.csv", "robustness-insert.csv", "significance-insert.csv"]
    assert set(files) == {
        *(f"{name}.{ending}" for name in pictures for ending in ("png", "svg", "pdf")),
        *(f"table-insert.{ending}" for ending in ("md", "csv", "tex")),
        *tables,
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


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.013, 0.081, [0.02, 0.04, 0.06, 0.08]),
        (1, 25, [5, 10, 15, 20, 25]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
    ],
)
def test_ticks(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
