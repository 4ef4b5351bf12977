"""Files are read as kubectl reads them, and whatever is wrong with one is said in a line that names place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeocean.kube.meta import name_of
from kubeocean.simulate.files import read_files, read_text
from kubeocean.simulate.given import BadInput, Side

HEAD = b"apiVersion: v1\nkind: Node\n"


def objects(text: bytes) -> list[str]:
    return [f"{each.kind} {name_of(each.obj)}" for each in read_text(text, source="f", side=Side.EITHER)]


SHAPES: dict[str, tuple[bytes, list[str]]] = {
    "one document": (HEAD + b"metadata: {name: a}", ["Node a"]),
    "several, with empty ones between": (
        b"---\n" + HEAD + b"metadata: {name: a}\n---\n---\n# only words\n---\n" + HEAD + b"metadata: {name: b}",
        ["Node a", "Node b"]),
    "a List as kubectl prints it": (
        b"apiVersion: v1\nkind: List\nitems:\n- {kind: Pod, metadata: {name: p}}\n- {kind: Node, metadata: {name: n}}",
        ["Pod p", "Node n"]),
    "a typed list leaves kinds out": (b"apiVersion: v1\nkind: NodeList\nitems: [{metadata: {name: a}}]", ["Node a"]),
    "JSON": (b'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}', ["Node a"]),
    "YAML that begins like JSON": (b"{apiVersion: v1, kind: Node, metadata: {name: a}}", ["Node a"]),
    "nothing at all": (b"", []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_usual_shape_is_read(shape: str) -> None:
    text, expected = SHAPES[shape]
    assert objects(text) == expected


def test_times_of_day_and_dates_stay_texts_as_they_do_for_kubernetes() -> None:
    metadata = b"metadata: {name: a, creationTimestamp: 2026-01-01T00:00:00Z}\n"
    spec = b"spec: {start: 20:00, day: 2026-01-01, n: 8, x: 1.5}"
    obj = read_text(HEAD + metadata + spec, source="f", side=Side.EITHER)[0].obj
    assert obj["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert obj["spec"] == {"start": "20:00", "day": "2026-01-01", "n": 8, "x": 1.5}


PROBLEMS: dict[str, tuple[bytes, str]] = {
    "no YAML": (b"kind: [", "f: line [12], column [0-9]: .*; correct the YAML there"),
    "a tab": (b"kind:\n\t- a", "f: line 2, column 1: .*; correct the YAML there"),
    "two colons": (b"a: b\nkind: Node: x", "f: line 2, column [0-9]+: .*; correct the YAML there"),
    "a text": (b"just words", "f: document 1: is no Kubernetes object; write an object with apiVersion"),
    "a number in the second document": (HEAD + b"metadata: {name: a}\n---\n7", "f: document 2: is no Kubernetes object"),
    "no kind": (b"metadata: {name: a}", "f: document 1: kind: is required; write"),
    "no name": (b"kind: Node\nmetadata: {}", "f: document 1: Node: metadata.name: is required and a text; write"),
    "a name that is a number": (b"kind: Node\nmetadata: {name: 7}", "f: document 1: Node: metadata.name: is .* a text"),
    "no metadata": (b"kind: Node", "f: document 1: Node: metadata.name: is required"),
    "a text in a List": (
        b"apiVersion: v1\nkind: List\nitems: [{kind: Node, metadata: {name: n}}, oops]",
        r"f: document 1, items\[1\]: is no Kubernetes object"),
    "bytes that are no text": (b"\xff\xfe\x00", "f: .*(UTF|unacceptable|YAML)"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_cannot_be_read_is_named(problem: str) -> None:
    text, message = PROBLEMS[problem]
    with pytest.raises(BadInput, match=message) as caught:
        read_text(text, source="f", side=Side.EITHER)
    assert all("\n" not in line for line in caught.value.problems)


def test_every_bad_document_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("oops\n---\nkind: Node")
    with pytest.raises(BadInput) as caught:
        read_files([tmp_path / "a.yaml", tmp_path / "missing.yaml"], Side.EITHER)
    assert [line.removeprefix(str(tmp_path)).split(":")[0] for line in caught.value.problems] == [
        "/a.yaml", "/a.yaml", "/missing.yaml"]
    assert "correct the path" in caught.value.problems[2]


def test_a_folder_stands_for_its_manifests(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_bytes(HEAD + b"metadata: {name: b}")
    (tmp_path / "a.json").write_text('{"kind": "Node", "metadata": {"name": "a"}}')
    (tmp_path / "notes.txt").write_text("no manifest")
    assert [name_of(each.obj) for each in read_files([tmp_path], Side.EITHER)] == ["a", "b"]


def test_a_folder_without_manifests_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.yaml, \.yml, \.json in this folder"):
        read_files([tmp_path], Side.EITHER)
