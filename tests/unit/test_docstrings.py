"""What docstrings show is what happens."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import kubeocean

ROOT = Path(kubeocean.__file__).parent
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")
)


def test_some_modules_have_examples() -> None:
    assert Path("kubeocean/domain/naming.py") in WITH_EXAMPLES


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_the_examples_of_a_module_are_true(path: Path) -> None:
    tried = doctest.testmod(import_module(".".join(path.with_suffix("").parts)))
    assert tried.attempted > 0
    assert tried.failed == 0
