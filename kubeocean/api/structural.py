"""From the JSON schema pydantic writes to the structural OpenAPI v3 schema a CRD takes.

The API server wants the schema without references, and we want it without titles and without `anyOf` as a way to say
null. An optional field is simply one that is not required: the API server prunes the null of a field not nullable.
"""

from __future__ import annotations

from kubeocean.api.model import ApiModel
from kubeocean.kube.meta import Json

_NULL = {"type": "null"}
_INT_OR_STRING = "x-kubernetes-int-or-string"
_FIRST = ("description", "type", "format", "required", "default", "enum")  # what people look for stands on top


def build_schema(model: type[ApiModel]) -> Json:
    """Return the structural schema of `model`."""
    schema = model.model_json_schema()
    return _structural(schema, schema.get("$defs", {}))


def _structural(schema: Json, definitions: Json) -> Json:
    merged = _merge_optional(_resolve(schema, definitions), definitions)
    kept = {key: value for key, value in merged.items() if key not in ("title", "$defs")}
    if kept.get("default", ...) in (None, [], {}):
        del kept["default"]  # says nothing that leaving the field out would not say
    if "const" in kept:
        kept["enum"] = [kept.pop("const")]
    if "properties" in kept:
        kept["properties"] = {name: _structural(field, definitions) for name, field in kept["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in kept:
            kept[key] = _structural(kept[key], definitions)
    return {key: kept[key] for key in (*_FIRST, *sorted(kept.keys() - set(_FIRST))) if key in kept}


def _resolve(schema: Json, definitions: Json) -> Json:
    """Put the definition in place of `$ref`; what stands beside the reference (description, rules) goes before it."""
    if "$ref" not in schema:
        return schema
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return _resolve({**definitions[schema["$ref"].rpartition("/")[2]], **beside}, definitions)


def _merge_optional(schema: Json, definitions: Json) -> Json:
    """Say `X | None` as X."""
    alternatives = schema.get("anyOf", [])
    if _NULL not in alternatives or schema.get(_INT_OR_STRING):
        return schema
    (present,) = (alternative for alternative in alternatives if alternative != _NULL)
    return {**_resolve(present, definitions), **{key: value for key, value in schema.items() if key != "anyOf"}}
