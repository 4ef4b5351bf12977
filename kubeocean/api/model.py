"""What all our API models share: one place says a rule, and both the API server and we enforce it.

A model describes an object as it stands on the wire. From the same class come the Python check (an object may have
passed a lender's older CRD, or none) and the schema of the CRD (`kubeocean.api.crd`). A `Rule` carries both faces of
one demand: a CEL expression for the API server and a predicate for us, with one message that names the remedy.

The Python side behaves as the API server does: types are not coerced, unknown fields are dropped, and a null counts as
a field left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from kubeocean.kube.meta import Json

INT32_MAX = 2**31 - 1
_ACRONYMS = {"id": "ID", "uid": "UID"}


def wire_name(name: str) -> str:
    """Return the JSON name of a Python field, with acronyms as Kubernetes writes them.

    >>> wire_name("cluster_id"), wire_name("secret_ref")
    ('clusterID', 'secretRef')
    """
    first, *rest = name.split("_")
    return first + "".join(_ACRONYMS.get(part, part.capitalize()) for part in rest)


class ApiModel(BaseModel):
    """One object (or part of one) of our API: immutable, camelCase on the wire, built by either name."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", alias_generator=wire_name, populate_by_name=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        # The API server prunes nulls of fields that are not nullable, and none of ours is.
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


@dataclass(frozen=True, slots=True)
class Rule:
    """A demand on a value, as an annotation: `cel` for the API server, `holds` for us, `remedy` is what both say.

    A rule without `holds` needs the old object (`oldSelf`), so only the API server can check it.
    """

    cel: str
    remedy: str
    holds: Callable[[Any], bool] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return core_schema.no_info_after_validator_function(self._check, schema) if self.holds else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        rules = [*described.get("x-kubernetes-validations", []), {"rule": self.cel, "message": self.remedy}]
        return {**described, "x-kubernetes-validations": rules}

    def _check(self, value: Any) -> Any:
        if self.holds is not None and not self.holds(value):
            raise PydanticCustomError("rule", "{remedy}", {"remedy": self.remedy})
        return value


def matches(pattern: str, remedy: str) -> Rule:
    """Return the rule that a text matches `pattern`: anchored, in syntax common to RE2 and Python, no quotes."""
    # ASCII: else Python folds "ſ" to "s" under (?i), and what reads the text after us would stumble.
    compiled = re.compile(pattern, re.ASCII)
    return Rule(f"self.matches('{pattern}')", remedy, lambda text: compiled.fullmatch(text) is not None)


INT32: dict[str, JsonValue] = {"format": "int32"}  # these are `json_schema_extra` of a Field
INT64: dict[str, JsonValue] = {"format": "int64"}
ATOMIC_LIST: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}
ATOMIC_MAP: dict[str, JsonValue] = {"x-kubernetes-map-type": "atomic"}

Seconds = Annotated[int, Field(ge=0, le=INT32_MAX, json_schema_extra=INT32)]
Count = Annotated[int, Field(ge=0, le=INT32_MAX, json_schema_extra=INT32)]
Generation = Annotated[int, Field(ge=0, json_schema_extra=INT64)]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]  # RFC 3339, as the API server writes


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an object: where (`spec.timeWindows[0].end`) and what to do about it."""

    field: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.remedy}"


class InvalidObject(ValueError):
    """An object of our API cannot be used; `problems` says why, field by field, and so does the message."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


Spec = TypeVar("Spec", bound=ApiModel)


def parse_spec(model: type[Spec], obj: Json) -> Spec:
    """Read the spec of `obj`. Raises InvalidObject with all problems at once, never only the first."""
    spec = obj.get("spec")
    try:
        return model.model_validate({} if spec is None else spec)
    except ValidationError as error:
        raise InvalidObject(
            Problem(_field_path(details["loc"]), "is required" if details["type"] == "missing" else details["msg"])
            for details in error.errors(include_url=False, include_context=False, include_input=False)
        ) from error


def _field_path(location: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
