"""The page in a browser: drawn, sorted, read in the dark, on a telephone and without a mouse."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec.report.write import report

pytestmark = pytest.mark.slow
ABSENT = "the browser tests need pip install -e '.[browser]' and Chromium"  # .ci/run looks for this line
SCRIPT = Path(__file__).parents[2] / "scripts" / "pictures.py"
sync_api = pytest.importorskip("playwright.sync_api", reason=ABSENT)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=ABSENT)


@pytest.fixture(scope="module")
def browser():
    program = runpy.run_path(str(SCRIPT))["chromium"]()
    if program is None:
        pytest.skip(ABSENT)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(shared_grid):
    return report([shared_grid], shared_grid.parent / "report", ["HR@10"], "NDCG@10", None, None).as_uri()


@pytest.fixture
def show(browser, address):
    """Function that opens the page; its complaints are an error at the end."""
    context, complaints = None, []

    def opened(scheme="light", width=1280, address=address):
        nonlocal context
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield opened
    context.close()
    assert complaints == []


def luminance(colour):
    """Relative luminance of rgb(0 to 255) or color(srgb 0 to 1), as WCAG 2 defines it."""
    values = [float(value) for value in re.findall(r"[\d.]+", colour)[:3]]
    if colour.startswith("rgb"):
        values = [value / 255 for value in values]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(page, selector, name):
    elements = "elements => elements.map(element => getComputedStyle(element)['{}'])"
    return {luminance(colour) for colour in page.locator(selector).evaluate_all(elements.format(name))}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_legible(show, scheme, width):
    page = show(scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert axe.Axe().run(page).response["violations"] == []
    (paper,) = colours(page, "figure", "backgroundColor")
    assert (paper < 0.1) == (scheme == "dark")
    lines = colours(page, "figure path[style*='stroke-width: 0.9'], .curve > path", "stroke")
    assert len(lines) > 3  # the curves of three rows, and the mixture that the condition in the middle has
    assert all((max(line, paper) + 0.05) / (min(line, paper) + 0.05) > 3 for line in lines)


def test_a_long_label_breaks_on_a_telephone(show, write_run, tmp_path):
    for ratio in (0, 0.2):
        noise = {"name": "insert", "ratio": ratio, "seed": 1} if ratio else {"name": "none"}
        write_run(f"plain-{ratio}", {"noise": noise})
        write_run(f"cat-{ratio}", {"noise": noise, "method.name": "cat", f"trainer.{'long' * 20}": "names" * 20})
    page = show(width=390, address=report([tmp_path / "runs"], tmp_path, ["HR@10"], "HR@10", None, None).as_uri())
    assert page.get_by_role("button", name="longlong").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_every_curve_is_drawn_and_can_be_hidden(show):
    page = show()
    boxes = [curve.bounding_box() for curve in page.locator(".curve").all()]
    assert len(boxes) == 6
    assert all(box["width"] > 200 for box in boxes)
    hidden = page.locator(".curve[data-row=cat], .band[data-row=cat]")
    page.get_by_role("button", name="cat", exact=True).click()
    assert [curve.is_visible() for curve in hidden.all()] == [False] * 4
    assert page.locator(".curve[data-row=plain]").first.is_visible()
    page.get_by_role("button", name="cat", exact=True).click()
    assert hidden.first.is_visible()


def first_column(table):
    return table.locator("tbody th:first-child").all_inner_texts()


def test_a_click_on_a_name_sorts(show):
    table = show().locator("table.main")
    assert first_column(table) == ["popularity", "plain", "cat"]
    last = table.get_by_role("button", name="NDCG@10").last
    for expected in (["cat", "popularity", "plain"], ["plain", "popularity", "cat"]):
        last.click()
        assert first_column(table) == expected
    table.get_by_role("button", name="method").click()
    assert first_column(table) == ["cat", "plain", "popularity"]
    assert table.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_a_cell_without_a_value_is_last(show):
    page = show()
    table = page.locator("h3:text-is('Robustness') ~ .scroll").first
    cells = table.locator("tbody td:last-child")
    for _ in range(2):
        table.get_by_role("button", name="half point").click()
        texts = cells.all_inner_texts()
        assert texts[:2] != texts[-2:] == ["–", "–"]


def test_the_keyboard_is_enough(show):
    page = show()
    focused = "document.activeElement.closest('th')?.textContent"
    while page.evaluate(focused) != "method":
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert first_column(page.locator("table.main")) == ["cat", "plain", "popularity"]
    assert page.evaluate(focused) == "method"


def test_the_pictures_of_the_documents_can_be_made_again(browser, tmp_path):
    subprocess.run([sys.executable, SCRIPT, "--output", tmp_path], check=True)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "terminal.svg").read_text()
    assert "report/index.html" in svg
    assert not re.search(r"url\(.?https?:", svg)
