"""Hooks of mkdocs.yml: README.md is the front page, and patterns in the navigation stand for pages."""

import re
from fnmatch import fnmatch
from pathlib import Path

from mkdocs.structure.files import File

LINK = re.compile(r"\[([^\]]*)\]\(([^):#\s]+)[^)\s]*\)")


def on_files(files, config):
    """Add README.md as the front page, and put pages in the place of the patterns of the navigation."""
    readme = Path(config.docs_dir).with_name("README.md").read_text()
    readme = re.sub(r"^.*badge.*\n\n", "", readme, flags=re.MULTILINE)  # GitHub alone has the page of the checks
    files.append(
        File.generated(
            config, "index.md", content=re.sub(r"\]\((?!docs/)(?=[\w./]+\))", "](../", readme).replace("](docs/", "](")
        )
    )
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = {entry for group in config.nav for entries in group.values() for entry in entries}
    for group in config.nav:
        for title, entries in group.items():
            group[title] = [
                page
                for entry in entries
                for page in pages
                if page == entry or (page not in named and fnmatch(page, entry) and page.count("/") == entry.count("/"))
            ]
    return files


def on_page_markdown(markdown, page, config, **_):
    """Keep the text alone of a link to a file outside docs/, which the site does not have."""
    docs = Path(config.docs_dir).resolve()
    here = (docs / page.file.src_uri).parent

    def shown(link):
        inside = (here / link.group(2)).resolve().is_relative_to(docs)
        return link.group() if inside else link.group(1)

    return LINK.sub(shown, markdown)
