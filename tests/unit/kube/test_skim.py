"""Passing over events undecoded: never one of ours, in whatever way the server writes it, against decoding them all."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.codec import decode
from kubeocean.kube.skim import Skimmer

NEEDLE = "vnode-edge-"
skimmer = Skimmer(NEEDLE)


def event(node: str | None, kind: str = "MODIFIED", rv: str = "7", metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    pod = {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "resourceVersion": rv, **(metadata or {})},
        "spec": {**({"nodeName": node} if node is not None else {}), "containers": []}, "status": {},
    }
    return {"type": kind, "object": pod}


def spelt_out(text: str) -> bytes:
    """Return a JSON string with every character escaped."""
    return ('"' + "".join(f"\\u{ord(character):04X}" for character in text) + '"').encode()


FOREIGN = {
    "bound to a node of another binding": event("vnode-core-1"),
    "bound to a node whose name has the needle's beginning": event("vnode-edg"),
    "not bound yet": event(None),
    "deleted": event("vnode-core-1", "DELETED"),
    "with escapes that spell no letter of a node's name": event("vnode-core-1", metadata={"annotations": {"a": "<&>\u2028"}}),
    "with a resourceVersion in its annotations": event("vnode-core-1", metadata={"annotations": {"resourceVersion": "9"}}),
}
KEPT = {
    "bound to one of our nodes": orjson.dumps(event("vnode-edge-1")),
    "bound a moment ago, with the news of it": orjson.dumps(event("vnode-edge-1", "MODIFIED")),
    "deleted on one of our nodes": orjson.dumps(event("vnode-edge-1", "DELETED")),
    "somebody else's, with our name in its text": orjson.dumps(event("other", metadata={"annotations": {"a": NEEDLE}})),
    "with the name of its node escaped": orjson.dumps(event("NODE")).replace(b'"NODE"', spelt_out("vnode-edge-1")),
    "with one letter of it escaped": orjson.dumps(event("NODE")).replace(b'"NODE"', b'"vnod\\u0065-edge-1"'),
    "with the dash of it escaped": orjson.dumps(event("NODE")).replace(b'"NODE"', b'"vnode\\u002Dedge-1"'),
    "with spaces between its members": json.dumps(event("other")).encode(),
    "with a name that has escapes": orjson.dumps(event("other", metadata={"name": 'a"b'})),
    "with its labels first":
        b'{"type":"ADDED","object":{"kind":"Pod","metadata":{"labels":{"resourceVersion":"9"},"resourceVersion":"7"}}}',
    "a bookmark": b'{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}',
    "an error": b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}',
    "garbage": b"{",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_an_event_is_passed_over_when_it_is(case: str) -> None:
    assert skimmer.position_of_foreign(orjson.dumps(FOREIGN[case]).replace(b"<", b"\\u003c")) == "7"


@pytest.mark.parametrize("case", KEPT)
def test_an_event_is_decoded_when_it_is(case: str) -> None:
    assert skimmer.position_of_foreign(KEPT[case]) == ""


@pytest.mark.parametrize("needle", ["", "Edge", 'a"b', "a.b", "ä"])
def test_a_needle_that_json_writes_in_more_than_two_ways_is_refused(needle: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        Skimmer(needle)


telling = st.sampled_from([NEEDLE, "vnode-edge-1", '"nodeName":"vnode-edge-1"', "resourceVersion"])
texts = st.one_of(st.text(max_size=12), telling)
maps = st.dictionaries(texts, texts, max_size=3)
nodes = st.one_of(st.none(), st.just("vnode-edge-1"), st.just("vnode-core-1"), texts)
metadata = st.fixed_dictionaries(
    {}, optional={"annotations": maps, "labels": maps, "generateName": texts, "ownerReferences": st.lists(maps, max_size=2)}
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Events as various servers may write them: members in any order, spaces, escapes where none are needed."""
    drawn = event(draw(nodes), draw(st.sampled_from(["ADDED", "MODIFIED", "DELETED"])), "7", draw(metadata))
    drawn["object"]["metadata"] = dict(draw(st.permutations(list(drawn["object"]["metadata"].items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    line = orjson.dumps(drawn) if draw(st.booleans()) else json.dumps(drawn, separators=separators).encode()
    for letter in draw(st.sets(st.sampled_from("veodg"))):  # a letter with a dash behind it is always within a string
        line = line.replace(f"{letter}-".encode(), f"\\u{ord(letter):04x}-".encode())
    return line


@given(lines())
def test_what_decoding_shows_to_be_ours_is_never_passed_over_and_the_position_is_the_true_one(line: bytes) -> None:
    position = skimmer.position_of_foreign(line)
    pod = decode(line)["object"]
    if (pod["spec"].get("nodeName") or "").startswith(NEEDLE):
        assert position == ""
    assert position in ("", pod["metadata"]["resourceVersion"])
