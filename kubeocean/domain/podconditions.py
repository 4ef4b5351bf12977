"""The conditions of a virtual Pod: which of them the twin speaks for, and what it would say with the Pod's own eyes.

`diff_conditions` gives the elements of a strategic merge patch (conditions merge by type, so nobody else's is lost).
`Generations` translates `observedGeneration`, which counts differently on the two sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kubeocean.api import names
from kubeocean.domain.podchange import is_pushed
from kubeocean.kube.meta import Json, is_deleting

_RESIZING: Final = ("PodResizePending", "PodResizeInProgress")  # a kubelet removes these when it is done


def diff_conditions(vpod: Json, status: Json, observed: Generations) -> Iterator[Json]:
    """Yield one patch element for each condition of the twin's `status` that the virtual Pod does not show yet."""
    mine = {condition["type"]: condition for condition in (vpod.get("status") or {}).get("conditions") or ()}
    theirs = {condition["type"]: condition for condition in status.get("conditions") or ()}
    others = _conditions_of_others(vpod, mine)
    for kind, condition in theirs.items():
        if kind in others:
            continue
        if kind == "Ready":
            condition = _with_readiness_gates(vpod, mine, condition)
        live = mine.get(kind)
        yield from _diff_condition(live, observed.translated(condition, live))
    for kind in _outdated(mine, theirs):
        yield {"$patch": "delete", "type": kind}
    if names.PHYSICAL_POD_UPDATED in mine and observed.up_to_date():
        yield {"$patch": "delete", "type": names.PHYSICAL_POD_UPDATED}


def _conditions_of_others(vpod: Json, mine: dict[str, Json]) -> set[str]:
    others = {"PodScheduled", names.PHYSICAL_POD_CREATED, names.PHYSICAL_POD_SCHEDULED, names.PHYSICAL_POD_UPDATED}
    others |= {gate["conditionType"] for gate in vpod["spec"].get("readinessGates") or ()}
    if (mine.get("DisruptionTarget") or {}).get("status") == "True":
        others.add("DisruptionTarget")
    return others


def _outdated(mine: dict[str, Json], theirs: dict[str, Json]) -> Iterator[str]:
    """Yield the conditions that the twin's present state has made untrue. No trace stays of a trouble that is over."""
    if names.PHYSICAL_POD_CREATED in mine:
        yield names.PHYSICAL_POD_CREATED
    if names.PHYSICAL_POD_SCHEDULED in mine and (theirs.get("PodScheduled") or {}).get("status") == "True":
        yield names.PHYSICAL_POD_SCHEDULED
    for kind in _RESIZING:
        if kind in mine and kind not in theirs:
            yield kind


def _diff_condition(live: Json | None, wanted: Json) -> Iterator[Json]:
    if live == wanted:
        return
    if live is None:
        yield wanted
        return
    # A null and a key left out are the same to the server; a key we leave out of the patch would stay as it was.
    if any(live.get(key) != wanted.get(key) for key in {**live, **wanted}):
        yield {**dict.fromkeys(live), **wanted}


def _with_readiness_gates(vpod: Json, mine: dict[str, Json], ready: Json) -> Json:
    """Return the twin's Ready condition, as a kubelet that knows the Pod's own readiness gates would set it.

    The twin is forged without gates. Times come from the conditions, never from a clock: the same facts, the same
    patch.
    """
    gates = vpod["spec"].get("readinessGates")
    if not gates or ready.get("status") != "True":
        return ready
    kinds = [gate["conditionType"] for gate in gates]
    problems = [problem for kind in kinds if (problem := _gate_problem(kind, mine.get(kind)))]
    times = [ready.get("lastTransitionTime"), *((mine.get(kind) or {}).get("lastTransitionTime") for kind in kinds)]
    latest = max((time for time in times if time), default=None)
    if not problems:
        return {**ready, "lastTransitionTime": latest}
    return {
        **ready, "status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(problems),
        "lastTransitionTime": latest,
    }


def _gate_problem(kind: str, condition: Json | None) -> str:
    # The words are a kubelet's (pkg/kubelet/status/generate.go).
    if condition is None:
        return f'corresponding condition of pod readiness gate "{kind}" does not exist.'
    if condition.get("status") != "True":
        return f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status")}'
    return ""


class Generations:
    """Translates what the physical kubelet has observed into generations of the virtual Pod.

    Both sides count on their own, so one number means nothing on the other side. But a kubelet that has seen the newest
    twin has seen the newest virtual Pod, if everything of that has been pushed down. Otherwise nothing new is claimed.
    """

    __slots__ = ("_ppod", "_vpod")

    def __init__(self, vpod: Json, ppod: Json) -> None:
        self._vpod = vpod
        self._ppod = ppod

    def translate(self, theirs: int | None, mine: int | None) -> int | None:
        """Return the virtual generation that `theirs` stands for; if it stands for none, `mine`: what was said so far."""
        generation: int | None = self._vpod["metadata"].get("generation")
        if theirs is None or generation is None or mine == generation:
            return mine
        newest = self._ppod["metadata"].get("generation") or 0
        return generation if theirs >= newest and self._pushed_down(generation) else mine

    def translated(self, condition: Json, live: Json | None) -> Json:
        """Return `condition` with its observedGeneration translated, or without it."""
        if "observedGeneration" not in condition:
            return condition
        generation = self.translate(condition["observedGeneration"], (live or {}).get("observedGeneration"))
        rest = {key: value for key, value in condition.items() if key != "observedGeneration"}
        return rest if generation is None else {**rest, "observedGeneration": generation}

    def up_to_date(self) -> bool:
        """Tell whether everything that the virtual Pod says has been pushed down."""
        return is_pushed(self._vpod, self._ppod)

    def _pushed_down(self, generation: int) -> bool:
        deleting = is_deleting(self._vpod)
        if deleting and not is_deleting(self._ppod):
            return False
        # Deletion counts as one generation, and creation as the first: these two need no look at the content.
        if generation == 1 + deleting:
            return True
        return self.up_to_date()
