"""`metav1.Condition`, as the status of both our kinds carries it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kubeocean.api.model import ApiModel, Generation, Time


class Condition(ApiModel):
    """One aspect of an object's state, and since when."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024, description="One word in CamelCase, for programs")]
    message: Annotated[str, Field(max_length=32768, description="For people; names the remedy")]
    last_transition_time: Time = Field(description="When status changed last")
    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation this was decided on"
    )


# Conditions of different writers merge by type in a server-side apply.
Conditions = Annotated[
    list[Condition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]
