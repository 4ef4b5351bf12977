"""Differences between the two ways that are meant, or that Kubernetes leaves no way around.

Each pattern stands for places in `sight`, each reason for a heading of docs/differences.md; both are checked. What is
not listed here or in the workload's own `differs` must be the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "differences.md"
EVERYWHERE: Final = {
    "pods > * > reports > * > env > KUBERNETES_*": "the address of the API server",
}


def documented() -> set[str]:
    """Return the headings of the document, as reasons name them."""
    return {line.lstrip("# ").strip().lower() for line in DOCUMENT.read_text().splitlines() if line.startswith("## ")}
