"""`v1.NodeSelector` in our schemas: which physical nodes an object speaks of.

At run time a selector stays the plain dict it was read as (`kube.selectors` compiles it); the models here only check
and describe it. The rules are those of Kubernetes' own validation, said at `kubectl apply` instead of by a selector
that silently matches nothing. The bounds on lengths are for the API server: it refuses rules of unbounded cost.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kubeocean.api.model import ATOMIC_LIST, ATOMIC_MAP, ApiModel, Rule
from kubeocean.kube.meta import Json

_INTEGER = "^[-+]?[0-9]+$"


class NodeSelectorRequirement(ApiModel):
    """One question about a label (or, in matchFields, about metadata.name)."""

    key: Annotated[str, Field(min_length=1, max_length=317, description="The label asked about")]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Annotated[
        list[Annotated[str, Field(max_length=253)]], Field(max_length=1000, json_schema_extra=ATOMIC_LIST)
    ] = Field(default_factory=list, description="Some for In and NotIn, one whole number for Gt and Lt, else none")


def _has_values_if_needed(asked: NodeSelectorRequirement) -> bool:
    return asked.operator not in ("In", "NotIn") or bool(asked.values)


def _has_no_values_if_useless(asked: NodeSelectorRequirement) -> bool:
    return asked.operator not in ("Exists", "DoesNotExist") or not asked.values


def _has_a_number_if_compared(asked: NodeSelectorRequirement) -> bool:
    return asked.operator not in ("Gt", "Lt") or (
        len(asked.values) == 1 and re.fullmatch(_INTEGER, asked.values[0]) is not None
    )


_Requirement = Annotated[
    NodeSelectorRequirement,
    Rule(
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        "operators In and NotIn need at least one entry in values", _has_values_if_needed,
    ),
    Rule(
        "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
        "operators Exists and DoesNotExist take no values; leave values out", _has_no_values_if_useless,
    ),
    Rule(
        "!(self.operator in ['Gt', 'Lt']) || "
        f"(has(self.values) && size(self.values) == 1 && self.values[0].matches('{_INTEGER}'))",
        "operators Gt and Lt need exactly one whole number in values, such as [\"4\"]", _has_a_number_if_compared,
    ),
]
_FieldRequirement = Annotated[
    _Requirement,
    Rule(
        "self.key == 'metadata.name' && self.operator in ['In', 'NotIn']",
        "matchFields knows only the key metadata.name with operator In or NotIn; use matchExpressions for labels",
        lambda asked: asked.key == "metadata.name" and asked.operator in ("In", "NotIn"),
    ),
    Rule(
        "!has(self.values) || size(self.values) < 2", "matchFields takes exactly one node name; write one term per name",
        lambda asked: len(asked.values) < 2,
    ),
]


class NodeSelectorTerm(ApiModel):
    """All its requirements together; a term without any matches no node."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    match_expressions: Annotated[list[_Requirement], Field(max_length=50, json_schema_extra=ATOMIC_LIST)] = Field(
        default_factory=list, description="Requirements on labels, all of which must hold"
    )
    match_fields: Annotated[list[_FieldRequirement], Field(max_length=10, json_schema_extra=ATOMIC_LIST)] = Field(
        default_factory=list, description="Requirements on metadata.name, all of which must hold"
    )


class NodeSelector(ApiModel):
    """A node is selected when one of the terms matches it; without terms every node is."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    node_selector_terms: Annotated[
        list[NodeSelectorTerm], Field(max_length=100, json_schema_extra=ATOMIC_LIST)
    ] = Field(default_factory=list, description="Alternatives")


class _CheckedAs:
    """Annotation: validated and described as `model`, but kept as the plain dict that was read."""

    def __init__(self, model: type[ApiModel]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _check_and_keep, handler.generate_schema(self._model), serialization=core_schema.simple_ser_schema("any"),
        )


def _check_and_keep(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


PlainNodeSelector = Annotated[Json, _CheckedAs(NodeSelector)]
