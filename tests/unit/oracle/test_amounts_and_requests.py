"""The oracle's own arithmetic, against tables computed by hand."""

from fractions import Fraction
from typing import Any

import pytest

from tests.oracle.amounts import amount, round_down
from tests.oracle.requests import taken

Json = dict[str, Any]

AMOUNTS: dict[str, tuple[str | int, Fraction]] = {
    "a whole number": (8, Fraction(8)),
    "a text": ("8", Fraction(8)),
    "thousandths": ("250m", Fraction(1, 4)),
    "a fraction with a suffix": ("1.5Gi", Fraction(3 * 2**29)),
    "a decimal suffix": ("2k", Fraction(2000)),
    "an exponent": ("1e3", Fraction(1000)),
    "a negative exponent": ("5E-1", Fraction(1, 2)),
    "exa, which looks like an exponent": ("1E", Fraction(10**18)),
    "a number that ends in a point": ("1.", Fraction(1)),
    "a number that begins with one": (".5Ki", Fraction(512)),
    "nano": ("3n", Fraction(3, 10**9)),
}


@pytest.mark.parametrize("sentence", AMOUNTS)
def test_quantities_mean(sentence: str) -> None:
    text, meant = AMOUNTS[sentence]
    assert amount(text) == meant


@pytest.mark.parametrize("text", ["", "GiB", "1 Gi", "1..2", "0x10", "1e", "1K", "four"])
def test_these_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        amount(text)


ROUNDED: dict[str, tuple[str, Fraction, Fraction]] = {
    "cpu to a thousandth": ("cpu", Fraction(23456, 10000), Fraction(2345, 1000)),
    "memory to a byte": ("memory", Fraction(7, 2), Fraction(3)),
    "Pods to a whole number": ("pods", Fraction(109, 10), Fraction(10)),
    "a GPU to a whole number": ("nvidia.com/gpu", Fraction(5, 2), Fraction(2)),
    "huge pages to a page": ("hugepages-2Mi", Fraction(5 * 2**20), Fraction(4 * 2**20)),
}


@pytest.mark.parametrize("sentence", ROUNDED)
def test_shares_are_rounded_down(sentence: str) -> None:
    resource, much, told = ROUNDED[sentence]
    assert round_down(resource, much) == told


def asks(name: str = "main", *, restart: str = "", **requests: str) -> Json:
    return {"name": name, "resources": {"requests": requests}} | ({"restartPolicy": restart} if restart else {})


def resized(reason: str = "", **in_effect: str) -> Json:
    pending = [{"type": "PodResizePending", "status": "True", "reason": reason}] if reason else []
    return {"phase": "Running", "conditions": pending, "containerStatuses": [
        {"name": "main", "resources": {"requests": in_effect}, "allocatedResources": in_effect},
    ]}


REQUESTS: dict[str, tuple[Json, Json, dict[str, str]]] = {
    "containers add up": ({"containers": [asks(cpu="1"), asks("b", cpu="500m", memory="1Gi")]}, {}, {
        "cpu": "1500m", "memory": "1Gi", "pods": "1",
    }),
    "a Pod that asks for nothing takes one place": ({"containers": [{"name": "main"}]}, {}, {"pods": "1"}),
    "the widest init container counts when it is wider": (
        {"containers": [asks(cpu="1", memory="4Gi")], "initContainers": [asks("a", cpu="3"), asks("b", cpu="2", memory="1Gi")]},
        {}, {"cpu": "3", "memory": "4Gi", "pods": "1"},
    ),
    "a sidecar runs beside the containers and beside later init containers": (
        {"containers": [asks(cpu="1")], "initContainers": [
            asks("first", cpu="2"), asks("sidecar", restart="Always", cpu="1"), asks("last", cpu="2"),
        ]},
        {}, {"cpu": "3", "pods": "1"},  # last + sidecar; main + sidecar is 2, and first was alone
    ),
    "overhead comes on top": (
        {"containers": [asks(cpu="1")], "overhead": {"cpu": "250m", "memory": "64Mi"}}, {},
        {"cpu": "1250m", "memory": "64Mi", "pods": "1"},
    ),
    "what the Pod asks as a whole overrides cpu and memory, and nothing else": (
        {
            "containers": [asks(cpu="1", **{"example.com/gpu": "1"})],
            "resources": {"requests": {"cpu": "5", "example.com/gpu": "9"}},
        },
        {}, {"cpu": "5", "example.com/gpu": "1", "pods": "1"},
    ),
    "a resize upwards counts at once": ({"containers": [asks(cpu="3")]}, resized(cpu="1"), {"cpu": "3", "pods": "1"}),
    "a resize downwards counts when it is done": ({"containers": [asks(cpu="1")]}, resized(cpu="3"), {"cpu": "3", "pods": "1"}),
    "a resize that is infeasible does not count": (
        {"containers": [asks(cpu="64")]}, resized("Infeasible", cpu="1"), {"cpu": "1", "pods": "1"},
    ),
    "one that is only deferred does": (
        {"containers": [asks(cpu="64")]}, resized("Deferred", cpu="1"), {"cpu": "64", "pods": "1"},
    ),
    "one that has succeeded takes nothing": ({"containers": [asks(cpu="1")]}, {"phase": "Succeeded"}, {}),
    "one that has failed takes nothing": ({"containers": [asks(cpu="1")]}, {"phase": "Failed"}, {}),
}


@pytest.mark.parametrize("sentence", REQUESTS)
def test_a_pod_takes(sentence: str) -> None:
    spec, status, takes = REQUESTS[sentence]
    assert taken({"spec": spec, "status": status}) == {name: amount(text) for name, text in takes.items()}
