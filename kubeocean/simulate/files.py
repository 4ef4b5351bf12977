"""Manifests out of files, read as kubectl reads them: YAML with several documents, JSON, Lists, folders, or - for stdin."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from kubeocean.kube.meta import Json
from kubeocean.simulate.given import BadInput, Given, Side

_SUFFIXES = (".yaml", ".yml", ".json")
_REMEDY = "write an object with apiVersion, kind and metadata.name, or a List of such"
if TYPE_CHECKING:
    from yaml import SafeLoader as _Base
else:
    _Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is compiled in


class _Loader(_Base):
    """YAML as Kubernetes reads it: 20:00 and 2026-01-01 are texts, not a number of minutes and a date."""


def _without(tags: Iterable[str]) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.items()
    return {first: [pair for pair in pairs if pair[0] not in tags] for first, pairs in resolvers}


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = _without(("tag:yaml.org,2002:timestamp", _INT, _FLOAT))
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"), list("-+0123456789."),
)


def read_files(paths: Iterable[Path], side: Side) -> list[Given]:
    """Return every object in the files. Raises BadInput with a line for every file or document that is none."""
    given: list[Given] = []
    problems: list[str] = []
    for path in paths:
        try:
            for file in _expand(path):
                given += read_text(_content(file), source="stdin" if str(file) == "-" else str(file), side=side)
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    return given


def read_text(text: bytes, *, source: str, side: Side) -> list[Given]:
    """Return every object in one file's content."""
    given: list[Given] = []
    problems: list[str] = []
    for position, document in enumerate(_documents(text, source), start=1):
        if document is None:
            continue
        for where, obj in _objects(document, f"document {position}"):
            if problem := _objection(obj):
                problems.append(f"{source}: {where}: {problem}")
            else:
                given.append(Given(source, side, obj))
    if problems:
        raise BadInput(problems)
    return given


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not found:
        raise BadInput([f"{path}: no {', '.join(_SUFFIXES)} in this folder; name the files"])
    return found


def _content(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput([f"{path}: cannot be read: {error.strerror}; correct the path or its permissions"]) from None


def _documents(text: bytes, source: str) -> list[Any]:
    if text.lstrip()[:1] in (b"{", b"["):
        try:
            return [orjson.loads(text)]
        except orjson.JSONDecodeError:
            pass  # flow-style YAML begins so as well
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadInput([f"{source}: {where}{error.problem}; correct the YAML there"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput([f"{source}: is neither YAML nor JSON: {str(error).splitlines()[0]}"]) from None


def _objects(document: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the object, or the objects of a List (kubectl's own, or a NodeList as the API server writes it)."""
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or not str(document.get("kind")).endswith("List"):
        yield where, document
        return
    member: Json = {"apiVersion": document.get("apiVersion"), "kind": str(document["kind"]).removesuffix("List")}
    for position, item in enumerate(items):
        # An API server leaves kind and apiVersion out of the members of a typed list.
        yield f"{where}, items[{position}]", {**member, **item} if isinstance(item, dict) else item


def _objection(obj: Any) -> str:
    if not isinstance(obj, dict):
        return f"is no Kubernetes object; {_REMEDY}"
    if not isinstance(obj.get("kind"), str) or not obj["kind"]:
        return f"kind: is required; {_REMEDY}"
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return f"{obj['kind']}: metadata.name: is required and a text; {_REMEDY}"
    return ""
