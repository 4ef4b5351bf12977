from __future__ import annotations

import pytest

from kubeocean.kube.codec import decode, encode, strip_managed_fields
from kubeocean.kube.meta import Json


def test_an_object_survives_the_way_out_and_back_in() -> None:
    obj: Json = {"metadata": {"name": "ä", "labels": None}, "spec": {"replicas": 3, "x": [1.5, True, ""]}}
    assert decode(encode(obj)) == obj


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'{"a":', b"<html>", b'"text"'])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(raw)


@pytest.mark.parametrize("obj", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"managedFields": [{}]}}])
def test_managed_fields_are_dropped_wherever_they_are(obj: Json) -> None:
    strip_managed_fields(obj)
    assert "managedFields" not in (obj.get("metadata") or {})
