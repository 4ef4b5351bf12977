"""What of Nodes and Pods the simulation reads, checked as a text file deserves: nobody's API server has seen it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import InvalidQuantity, Quantity


def _is_quantity(value: Any) -> Any:
    try:
        if Quantity.parse(value) >= Quantity(0):
            return value
        raise PydanticCustomError("quantity", "must not be negative")
    except (InvalidQuantity, TypeError) as error:
        raise PydanticCustomError("quantity", "{message}", {"message": str(error)}) from None


def _no_nulls(value: Any) -> Any:
    """Return a mapping without its nulls: to an API server they are fields left out."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


_Amounts = Annotated[dict[str, Annotated[Any, BeforeValidator(_is_quantity)]], BeforeValidator(_no_nulls)]
_Texts = Annotated[dict[str, str], BeforeValidator(_no_nulls)]


class _Metadata(_Part):
    labels: _Texts | None = None
    annotations: _Texts | None = None


class _Resources(_Part):
    requests: _Amounts | None = None


class _Container(_Part):
    name: str
    resources: _Resources | None = None


class _Toleration(_Part):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    tolerationSeconds: int | None = None  # noqa: N815  the wire's name


class _PodSpec(_Part):
    nodeName: str | None = None  # noqa: N815
    priority: int | None = None
    containers: list[_Container] = Field(min_length=1)
    initContainers: list[_Container] | None = None  # noqa: N815
    tolerations: list[_Toleration] | None = None
    overhead: _Amounts | None = None
    resources: _Resources | None = None


class _Pod(_Part):
    metadata: _Metadata
    spec: _PodSpec
    status: dict[str, Any] | None = None


class _Taint(_Part):
    key: str
    effect: str


class _NodeSpec(_Part):
    taints: list[_Taint] | None = None


class _NodeStatus(_Part):
    allocatable: _Amounts


class _Node(_Part):
    metadata: _Metadata
    spec: _NodeSpec | None = None
    status: _NodeStatus


_REMEDIES = {
    "status": "take the Node from its cluster: kubectl get node NAME -o yaml",
    "status.allocatable": "write what its Pods may use, such as {cpu: \"8\", memory: 32Gi, pods: \"110\"}",
    "spec.containers": "write the Pod's containers",
}


def check_node(obj: Json) -> list[str]:
    """Return what is wrong with a Node, each with field and remedy; empty = usable."""
    return _check(_Node, obj)


def check_pod(obj: Json) -> list[str]:
    """Return what is wrong with a Pod, each with field and remedy; empty = usable."""
    return _check(_Pod, obj)


def _check(model: type[_Part], obj: Json) -> list[str]:
    try:
        model.model_validate(obj)
    except ValidationError as error:
        return [_line(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors(include_url=False)]
    return []


def _line(location: tuple[int | str, ...], kind: str, message: str) -> str:
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")
    if kind == "missing":
        return f"{field}: is required; {_REMEDIES.get(field, 'add it')}"
    return f"{field}: {message}"
