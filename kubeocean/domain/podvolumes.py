"""Volumes of the twin, source by source. References were refused before (`podrefs`); the unknown is refused here."""

from __future__ import annotations

from collections.abc import Iterator

from kubeocean.domain.poddownward import Downward
from kubeocean.domain.podfields import ENV_SOURCE, PROJECTED_SOURCE, VOLUME, Rule, Treatment
from kubeocean.domain.podtoken import TokenSecret, map_token_volume, needs_secret
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json


def check_sources(vpod: Json) -> Refusal | None:
    """Return a refusal that names every source of a volume or variable we cannot give to a twin; None without one."""
    problems = list(_problems(vpod["spec"]))
    if not problems:
        return None
    message = f"cannot be carried to a physical cluster: {'; '.join(problems)}. Remove it from the Pod"
    return Refusal("FieldNotSupported", message)


def _problems(spec: Json) -> Iterator[str]:
    if spec.get("resourceClaims"):
        yield "spec.resourceClaims (dynamic resource allocation is decided in the virtual cluster)"
    for index, volume in enumerate(spec.get("volumes") or ()):
        where = f"spec.volumes[{index}]"
        yield from _unusable(volume, VOLUME, where)
        for position, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            yield from _unusable(source, PROJECTED_SOURCE, f"{where}.projected.sources[{position}]")
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            for position, variable in enumerate(container.get("env") or ()):
                if source := variable.get("valueFrom"):
                    yield from _unusable(source, ENV_SOURCE, f"spec.{kind}[{index}].env[{position}].valueFrom")


def _unusable(source: Json, table: dict[str, Rule], where: str) -> Iterator[str]:
    for field in source:
        if field == "name":
            continue
        rule = table.get(field)
        if rule is None:
            yield f"{where}.{field} (unknown to this version of Kubeocean)"
        elif rule.treatment is Treatment.REFUSE:
            yield f"{where}.{field} ({rule.why})"


def map_volumes(vpod: Json, downward: Downward) -> tuple[list[Json], list[TokenSecret]]:
    """Return the twin's volumes, and the Secrets that must exist before it starts."""
    volumes: list[Json] = []
    tokens: list[TokenSecret] = []
    for volume in vpod["spec"].get("volumes") or ():
        if projected := volume.get("projected"):
            if needs_secret(projected):
                volume, token = map_token_volume(vpod, volume, downward)
                tokens.append(token)
            else:
                volume = {"name": volume["name"], "projected": _map_projected(projected, downward)}
        elif fields := volume.get("downwardAPI"):
            volume = {"name": volume["name"], "downwardAPI": _map_items(fields, downward)}
        volumes.append(volume)
    return volumes, tokens


def _map_projected(projected: Json, downward: Downward) -> Json:
    items = [source["downwardAPI"] for source in projected.get("sources") or () if source.get("downwardAPI")]
    sources = [{"downwardAPI": _map_items(fields, downward)} for fields in items]
    return {**{key: value for key, value in projected.items() if key == "defaultMode"}, "sources": sources}


def _map_items(fields: Json, downward: Downward) -> Json:
    return {**fields, "items": downward.rewrite_items(fields.get("items") or ())}
