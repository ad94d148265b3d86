"""What the methods' pages say of the defaults is what the configuration says."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.stem for path in (ROOT / "docs" / "methods").glob("*.md"))


def keys_and_defaults(page: str) -> list[tuple[str, str]]:
    """Return (key, default) of each line of the table of keys; lines with as many defaults as keys, parted by commas, alone."""
    table = re.search(r"\| key \| default \| meaning \|\n\|[-|]+\n((?:\|.*\n)+)", page).group(1)
    found = []
    for line in table.splitlines():
        keys, defaults = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3])
        keys, defaults = re.findall(r"`([^`]+)`", keys), [word.strip(" `") for word in defaults.split(",")]
        if len(keys) == len(defaults):
            found.extend(zip(keys, defaults, strict=True))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_defaults(name):
    method = OmegaConf.load(ROOT / "conf" / "method" / f"{name}.yaml")
    base = [
        OmegaConf.load(ROOT / "conf" / "method" / f"{entry}.yaml")
        for entry in method.get("defaults", [])
        if entry != "_self_"
    ]
    values = OmegaConf.merge(*base, method)
    found = keys_and_defaults((ROOT / "docs" / "methods" / f"{name}.md").read_text())
    assert found
    for key, default in found:
        node = OmegaConf.to_container(values, resolve=False)
        for part in key.split("."):
            node = node[part]
        if isinstance(node, bool) or node is None:
            assert default == {True: "true", False: "false", None: "null"}[node], key
        elif isinstance(node, int | float):
            assert float(default) == node, key
        else:
            assert default == str(node), key
