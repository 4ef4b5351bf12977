"""ResourceLeasingPolicy: which share of which nodes may be used, and when.

The same kind lives on both sides: in the virtual cluster (the borrower's) and in the physical one (the lender's).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from kubeocean.api.condition import Conditions
from kubeocean.api.model import ATOMIC_LIST, INT32, INT32_MAX, ApiModel, Count, Seconds, Time, matches, parse_spec
from kubeocean.api.nodeselector import PlainNodeSelector
from kubeocean.api.zone import TimeZone
from kubeocean.kube.meta import Json

# The text forms of resource.Quantity (apimachinery pkg/api/resource) that are not negative and not beyond all measure.
_QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$"
_LONGEST_QUANTITY = 64


class _Quantity:
    """Annotation: a resource quantity as manifests write it, a whole number or a text."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # A pattern, not a CEL rule: the API server takes int-or-string for a text of 3 MB when it estimates costs.
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True,
            "pattern": _QUANTITY, "maxLength": _LONGEST_QUANTITY, "minimum": 0,
        }

    @staticmethod
    def _check(value: Any) -> str | int:
        if type(value) is int and value >= 0:  # not bool
            return value
        if isinstance(value, str) and len(value) <= _LONGEST_QUANTITY and re.fullmatch(_QUANTITY, value):
            return value
        raise PydanticCustomError("quantity", "write a quantity that is not negative, such as 4, 500m or 8Gi")


Quantity = Annotated[str | int, _Quantity()]
ClockTime = Annotated[
    str, Field(max_length=64),
    matches("^([01][0-9]|2[0-3]):[0-5][0-9]$", "write a time of day as HH:MM, from 00:00 to 23:59"),
]
Day = Annotated[
    str, Field(max_length=64),
    matches(
        "^(?i:monday|tuesday|wednesday|thursday|friday|saturday|sunday)$",
        "write a day's full English name: monday, tuesday, wednesday, thursday, friday, saturday or sunday",
    ),
]


class TimeWindow(ApiModel):
    """A span of the day in which the nodes may be used; one that crosses midnight belongs to the day it starts on."""

    start: ClockTime = Field(description="First minute, HH:MM")
    end: ClockTime = Field(description="Last minute (still open), HH:MM; before start: on the next day")
    days: Annotated[list[Day], Field(max_length=7, json_schema_extra=ATOMIC_LIST)] = Field(
        default_factory=list, description="Full English names in any case; empty: every day"
    )


class ResourceLimit(ApiModel):
    """The most of one resource that may be leased: the least of what is free, quantity, and percent of what is free."""

    resource: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        description="Such as cpu, memory, pods or nvidia.com/gpu"
    )
    quantity: Quantity | None = Field(default=None, description="Absolute limit; 0: none of it")
    percent: Annotated[int, Field(ge=0, le=100, json_schema_extra=INT32)] | None = Field(
        default=None, description="Limit as a share of what other Pods leave free; 0: none of it"
    )


class ResourceLeasingPolicySpec(ApiModel):
    """What may be leased of the selected nodes, and how it is taken back."""

    cluster: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description='Name of the ClusterBinding; in a physical cluster also its clusterID, or "*" for every borrower'
    )
    node_selector: PlainNodeSelector | None = Field(
        default=None, description="Those of the binding's nodes it applies to; left out, or without terms: all of them"
    )
    time_windows: Annotated[list[TimeWindow], Field(max_length=100, json_schema_extra=ATOMIC_LIST)] = Field(
        default_factory=list, description="When the nodes may be used; empty: always"
    )
    resource_limits: Annotated[list[ResourceLimit], Field(max_length=100, json_schema_extra=ATOMIC_LIST)] = Field(
        default_factory=list, description="Limits by resource; one that is not listed is leased whole"
    )
    force_reclaim: bool = Field(default=False, description="Evict the Pods that are still there when a window closes")
    graceful_reclaim_period_seconds: Seconds = Field(
        default=0, description="How long Pods may stay after a window closed, with forceReclaim"
    )
    priority: Annotated[int, Field(ge=-INT32_MAX - 1, le=INT32_MAX, json_schema_extra=INT32)] = Field(
        default=0, description="Of the policies that match a node the highest wins, then the oldest, then by name"
    )
    time_zone: TimeZone | None = Field(default=None, description="IANA zone of timeWindows; left out: the binding's")
    notice_seconds: Seconds | None = Field(default=None, description="How long before a window closes Pods are warned")
    reclaim_timeout_seconds: Seconds = Field(
        default=300, description="How long evictions that disruption budgets block are retried before Pods go anyway"
    )


class PolicyState(ApiModel):
    """How a policy fares with one borrower."""

    phase: Literal["Pending", "Active", "Inactive", "Failed"] | None = None
    active_time_window: bool | None = Field(default=None, description="Whether a window is open now")
    last_applied_time: Time | None = Field(default=None, description="When the nodes were last brought in line with it")
    conditions: Conditions = Field(default_factory=list, description="Valid, Active, Effective")
    next_change_time: Time | None = Field(default=None, description="When a window opens or closes next")
    nodes: Count | None = Field(default=None, description="Nodes this policy is effective on")
    leased: dict[str, str] | None = Field(default=None, description="Leased of these nodes, by resource")


class BorrowerState(PolicyState):
    """How a lender's policy fares with the borrower named by virtualClusterUID."""

    virtual_cluster_uid: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="uid of the borrower's kube-system"
    )
    cluster_id: str | None = Field(default=None, description="clusterID of the borrower's binding")


class ResourceLeasingPolicyStatus(PolicyState):
    """What the syncers last made of the policy."""

    borrowers: Annotated[
        list[BorrowerState],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["virtualClusterUID"]}),
    ] = Field(default_factory=list, description="On a lender's policy: its state, borrower by borrower")


def parse_policy(obj: Json) -> ResourceLeasingPolicySpec:
    """Read a ResourceLeasingPolicy's spec. Raises InvalidObject naming every bad field and its remedy."""
    return parse_spec(ResourceLeasingPolicySpec, obj)
