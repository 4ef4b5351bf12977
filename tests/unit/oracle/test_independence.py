"""The oracle of the integration tests owes nothing to what it judges."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "oracle"
MODULES = sorted(FOLDER.glob("*.py"))
STANDARD = {"hashlib", "math", "re", "zoneinfo", "fractions", "datetime", "dataclasses", "typing", "collections"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_oracle_imports_only_itself_and_the_standard_library(path: Path) -> None:
    for name in imported(ast.parse(path.read_text())):
        assert name.startswith("tests.oracle.") or name.partition(".")[0] in STANDARD, f"{path.name} imports {name}"


def test_no_other_word_for_import_hides_in_it() -> None:
    assert MODULES
    for path in MODULES:
        words = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not words & {"__import__", "importlib", "exec", "eval"}, path.name


def imported(module: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports may lead anywhere"
            names.append(node.module or "")
    return names
