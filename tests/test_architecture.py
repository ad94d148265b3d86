"""Imports go one way, as docs/architecture.md has it."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
FORBIDDEN = (
    "seqrec.config",
    "seqrec.build",
    "seqrec.training",
    "seqrec.runs",
    "seqrec.data.loader",
    "seqrec.data.source",
)


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(root: Path) -> dict[str, set[str]]:
    """Return the modules of the package that each of its modules imports, wherever in the file the import is."""
    modules = {module_of(path, root): path for path in (root / "seqrec").rglob("*.py")}
    graph = {}
    for module, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in modules else node.module for name in names}
        graph[module] = {name for name in found if name in modules and name != module}
    return graph


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def back_up(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports from a lower floor to a higher one."""
    floor = {name: number for number, name in enumerate(FLOORS)}
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if room(module) and room(other) and floor[room(other)] > floor[room(module)]
    ]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """The imports of the package."""
    return import_graph(ROOT)


def test_every_room_has_a_floor(graph):
    assert {room(module) for module in graph} - {""} == set(FLOORS)


def test_imports_go_down(graph):
    assert not back_up(graph)


def test_no_circle(graph):
    faces = {
        module: {other for other in others if not other.startswith(module + ".")} for module, others in graph.items()
    }
    TopologicalSorter(faces).prepare()  # raises CycleError


@pytest.mark.parametrize("kind", ["methods", "backbones", "losses"])
def test_models_know_nothing_of_configuration_loading_or_training(graph, kind):
    for module, others in graph.items():
        if room(module) == kind:
            assert not [other for other in others if other.startswith(FORBIDDEN)], module


def test_few_files_lie_flat():
    assert len(list((ROOT / "seqrec").glob("*.py"))) <= 8


def test_files_are_small():
    large = [path for path in (ROOT / "seqrec").rglob("*.py") if len(path.read_text().splitlines()) > 300]
    assert not large


def test_an_import_back_up_is_found(tmp_path):
    for name, text in (("methods/x.py", "def f():\n    from seqrec.build import make\n"), ("build.py", "")):
        path = tmp_path / "seqrec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert back_up(import_graph(tmp_path)) == ["seqrec.methods.x imports seqrec.build"]
