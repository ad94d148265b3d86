"""The Markdown files: links between them and to their headings lead somewhere, and no page is long."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if "outputs" not in path.parts
)
CODE = re.compile(r"^```.*?^```$|^    .*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CHECKS = "../../actions/"  # a page of GitHub beside the repository's files


def anchor_of(heading: str) -> str:
    """Return the name of a heading in links to it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> set[str]:
    """Return the names of the headings of a page, as GitHub and the site make them."""
    found, count = set(), Counter()
    without_code = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for name in map(anchor_of, re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)):
        found.add(f"{name}-{count[name]}" if count[name] else name)
        count[name] += 1
    return found


def dead_links(path: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere; addresses of the web are not looked up."""
    dead = []
    for link in LINK.findall(CODE.sub("", text)):
        file, _, anchor = link.partition("#")
        page = path.parent / file if file else path
        if (
            ":" not in link
            and not link.startswith(CHECKS)
            and (not page.exists() or (anchor and anchor not in anchors(page)))
        ):
            dead.append(link)
    return dead


def test_links_lead_somewhere():
    assert not {name: dead for name in FILES if (dead := dead_links(ROOT / name, (ROOT / name).read_text()))}


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    text = "# One, two\n\n## A `b`\n\n## A `b`\n[a](#one-two) [b](page.md#a-b-1) [c](#b) [d](gone.md) [e](http://x.y/z) `[f](no.md)`\n"
    page.write_text(text)
    assert dead_links(page, text) == ["#b", "gone.md"]


def test_a_list_of_contents_has_every_section():
    for name in FILES:
        text = (ROOT / name).read_text()
        contents = re.search(r"^Contents: (.+?)\n\n", text, re.MULTILINE | re.DOTALL)
        assert contents or not name.startswith("docs/results/"), name
        if contents:
            sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
            assert set(map(anchor_of, sections)) <= set(re.findall(r"\(#(.+?)\)", contents.group(1))), name


def test_no_page_is_long():
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in FILES if name.startswith(("README", "docs"))}
    assert not {name: count for name, count in lines.items() if count >= (150 if name == "README.md" else 200)}
