"""Volumes of the twin, source by source."""

from __future__ import annotations

from kubeocean.domain.podcopy import Copier
from kubeocean.domain.podrefs import ephemeral_claim
from kubeocean.domain.podtoken import TokenSecret, map_root_ca_volume, map_token_volume, needs_secret
from kubeocean.kube.meta import Json


def map_volumes(vpod: Json, copier: Copier) -> tuple[list[Json], list[TokenSecret]]:
    """Return the twin's volumes, and the Secrets that must exist before it starts."""
    volumes: list[Json] = []
    tokens: list[TokenSecret] = []
    for volume in vpod["spec"].get("volumes") or ():
        mapped, token = _map_volume(vpod, volume, copier)
        volumes.append(mapped)
        if token:
            tokens.append(token)
    return volumes, tokens


def _map_volume(vpod: Json, volume: Json, copier: Copier) -> tuple[Json, TokenSecret | None]:
    if (projected := volume.get("projected")) is not None:
        if needs_secret(projected):
            return map_token_volume(vpod, volume, copier)
        sources = copier.copy_all(projected.get("sources"), "VolumeProjection")
        copied = copier.copy(projected, "ProjectedVolumeSource")
        return {"name": volume["name"], "projected": copied | {"sources": sources}}, None
    if "ephemeral" in volume:
        claim = {"claimName": copier.rename(ephemeral_claim(vpod, volume))}
        return {"name": volume["name"], "persistentVolumeClaim": claim}, None
    return map_root_ca_volume(vpod, volume, copier) or (copier.copy(volume, "Volume"), None)
