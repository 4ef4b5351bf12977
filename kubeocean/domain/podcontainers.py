"""Containers of the twin, of all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeocean.domain.podcopy import Copier
from kubeocean.domain.poddownward import annotation_path
from kubeocean.kube.meta import Json


def map_container(container: Json, env: Iterable[Json], copier: Copier, table: str = "Container") -> Json:
    """Return a container for the twin; `env` are the variables it gets beside its own."""
    return copier.copy(container, table) | {"env": _map_env(container.get("env") or (), env, copier)}


def _map_env(own: Iterable[Json], env: Iterable[Json], copier: Copier) -> list[Json]:
    # Ours come first, so that the Pod's own may refer to them as $(NAME); what it sets itself it keeps.
    taken = {variable["name"] for variable in own}
    forged = [variable for variable in env if variable["name"] not in taken]
    return forged + [copier.copy(variable, "EnvVar") for variable in own]


def resolve_variables(env: Iterable[Json], annotations: Mapping[str, str]) -> list[Json]:
    """Return variables with plain values in place of references to any of `annotations`."""
    known = {annotation_path(key): value for key, value in annotations.items()}
    return [_resolved(variable, known) for variable in env]


def _resolved(variable: Json, known: Mapping[str, str]) -> Json:
    path = str(((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath"))
    if path not in known:
        return variable
    return {"name": variable["name"], "value": known[path].replace("$", "$$")}  # else a kubelet would expand $(…) in it
