"""An ordinary workload, as a user would write it, and what its containers are to see.

One YAML file below `workloads/`: the manifests, and as the last document what is expected:

    expect:
      ends: Succeeded            # when to look: Succeeded, Failed (and no container runs), Ready, Restarted,
                                 #   `Waiting REASON`, or Play: when its play is over
      pods: 1                    # how many Pods there are then, or `one per node`
      sees: {main: {...}}        # part of what a container reported (`POD/CONTAINER`, `CONTAINER`, `CONTAINER#LABEL`)
      prints: {main: [...]}      # all other lines of its log
      status: {...}              # part of the Pod's status, as `sight.status_of` puts it
      tells: [REASON]            # Events that its Pods have sooner or later
      differs: {PATTERN: WHY}    # what may differ between the two ways; WHY is a heading of docs/differences.md
      varies: {PATTERN: WHY}     # what may differ between any two runs, even of one way
      only: virtual              # not run directly, and why that makes no sense: `because`
      early: true                # starts among the first, because it takes long

What cannot be said as data is a play (`plays.py`): steps that are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubeocean.kube.meta import Json

FOLDER = Path(__file__).with_name("workloads")


@dataclass(frozen=True, slots=True)
class Expectation:
    """See the module's docstring."""

    ends: str = "Succeeded"
    pods: int | str = 1
    sees: Mapping[str, Json] = field(default_factory=dict)
    prints: Mapping[str, list[str]] = field(default_factory=dict)
    status: Json = field(default_factory=dict)
    tells: Sequence[str] = ()
    differs: Mapping[str, str] = field(default_factory=dict)
    varies: Mapping[str, str] = field(default_factory=dict)
    only: str = ""
    because: str = ""
    early: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """`objects` come in the order they are created in."""

    name: str
    text: str
    expect: Expectation

    def objects(self, variables: Mapping[str, str]) -> list[Json]:
        """Return the manifests with every __NAME__ replaced."""
        text = self.text
        for name, value in variables.items():
            text = text.replace(f"__{name}__", value)
        return [document for document in yaml.safe_load_all(text) if document and "kind" in document]


def load(path: Path) -> Workload:
    text = path.read_text()
    documents: list[Any] = [document for document in yaml.safe_load_all(text) if document]
    expectations = [document["expect"] or {} for document in documents if "expect" in document]
    assert len(expectations) == 1, f"{path.name}: one document must be `expect:`"
    return Workload(path.stem, text, Expectation(**expectations[0]))


def load_all() -> list[Workload]:
    """Return every workload, those that take long first."""
    return sorted(map(load, FOLDER.glob("*.yaml")), key=lambda workload: (not workload.expect.early, workload.name))
