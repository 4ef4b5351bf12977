"""Bytes to objects and back: the one door through which JSON enters and leaves."""

from __future__ import annotations

import orjson

from kubeocean.kube.meta import Json


def decode(raw: bytes | bytearray | memoryview) -> Json:
    """Return the JSON object in `raw`. Raises ValueError when it is no JSON, or JSON but no object."""
    obj = orjson.loads(raw)
    if not isinstance(obj, dict):
        raise ValueError(f"expected a JSON object, got {type(obj).__name__}")
    return obj


def encode(obj: object) -> bytes:
    """Return compact UTF-8 JSON. Raises TypeError for what JSON cannot say (keys that are no strings, NaN is null)."""
    return orjson.dumps(obj)


def strip_managed_fields(obj: Json) -> None:
    """Drop metadata.managedFields in place: a third of every object, and no controller reads it.

    Only for an object that was just decoded and that nobody else holds yet; later ones are never changed.
    """
    metadata = obj.get("metadata")
    if metadata is not None:
        metadata.pop("managedFields", None)
