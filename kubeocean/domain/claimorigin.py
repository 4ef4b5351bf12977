"""Whose data is behind a physical claim: what its marks say, and what the virtual volumes say that were provisioned with it.

The marks of a physical claim (for which virtual claim it was made, and that it holds data of its own) can be changed by
everybody who may write in the lender's namespace; data must not depend on them. Two things cannot be changed there. The virtual
volume names the physical claim, and notes the physical volume that it was made for. And a claim that is bound never gets
another volume. So where both name the same volume, the data is that virtual volume's, whatever the claim says of itself.

Several virtual volumes may name a claim: its name follows from the virtual claim's, which can be made again and again. One
whose note names another physical volume than the claim's stands for an earlier claim of this name, whose data is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeocean.api import names
from kubeocean.domain.provisioning import is_provisioned_claim, origin_uid_of
from kubeocean.domain.volumemap import virtual_claim_uid_of
from kubeocean.kube.meta import Json, annotations_of


def is_proved(volume: Json, twin: Json) -> bool:
    """Tell whether both name the same physical volume."""
    bound = twin["spec"].get("volumeName")
    return bool(bound) and annotations_of(volume).get(names.PHYSICAL_NAME_ANNOTATION) == bound


def may_stand_for(volume: Json, twin: Json) -> bool:
    """Tell whether a virtual volume that names the claim may stand for its data: nothing says that it is an earlier one's."""
    noted = annotations_of(volume).get(names.PHYSICAL_NAME_ANNOTATION)
    return not noted or is_proved(volume, twin) or virtual_claim_uid_of(twin) == origin_uid_of(volume)


def stands_for(volume: Json, twin: Json) -> bool:
    """Tell whether a virtual volume that names the claim stands for its data, by proof or by what the claim says."""
    return is_proved(volume, twin) or virtual_claim_uid_of(twin) in ("", origin_uid_of(volume))


def volumes_behind(twin: Json, provisioned: Iterable[Json]) -> tuple[Json, ...]:
    """Return those of the virtual volumes that name a claim whose data it holds: by proof, or else as far as can be told."""
    volumes = tuple(provisioned)
    proved = tuple(each for each in volumes if is_proved(each, twin))
    if proved or not is_provisioned_claim(twin):
        return proved
    return tuple(each for each in volumes if may_stand_for(each, twin))


def tell_origin(twin: Json, behind: Iterable[Json], claim_uid: str) -> str:
    """Return the uid of the virtual claim for which a claim with these volumes was made, "" when nobody can tell.

    `claim_uid` is that of the virtual claim which lives, "" for none: if one of the volumes is its own, it got that one last.
    """
    origins = {origin_uid_of(volume) for volume in behind}
    for uid in (claim_uid, virtual_claim_uid_of(twin)):
        if uid in origins:
            return uid
    return origins.pop() if len(origins) == 1 else ""


def is_mere_description(twin: Json, brought: Iterable[str]) -> bool:
    """Tell whether a claim has no data of its own: not bound, or to one of the volumes that we `brought` (names)."""
    return not is_provisioned_claim(twin) and (twin["spec"].get("volumeName") or "") in {"", *brought}
