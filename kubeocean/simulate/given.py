"""What the simulation is given: objects, each with where it came from, and how to complain about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from kubeocean.kube.meta import Json, name_of, namespace_of


class Side(Enum):
    """Which cluster an object is from; of files with a mix of both the objects themselves must tell."""

    VIRTUAL = "virtual"
    PHYSICAL = "physical"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Given:
    """One object and its source: a file's name, or (`live`) a cluster's, whose API server has looked at it."""

    source: str
    side: Side
    obj: Json
    live: bool = False

    @property
    def kind(self) -> str:
        """Return the object's kind."""
        return str(self.obj["kind"])

    @property
    def title(self) -> str:
        """Return what a complaint calls the object."""
        namespace = namespace_of(self.obj)
        return f"{self.source}: {self.kind} {namespace + '/' if namespace else ''}{name_of(self.obj)}"


class BadInput(Exception):
    """The input cannot be used; `problems` has a line for each thing to mend: source, object, field, remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
