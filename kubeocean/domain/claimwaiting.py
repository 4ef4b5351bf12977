"""Which claims a Pod waits for, and what would bind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kubeocean.api import names
from kubeocean.domain.claimpair import describe, is_bound
from kubeocean.domain.podrefs import CLAIM
from kubeocean.domain.podstory import NamedClaim, PodStory
from kubeocean.domain.provisioning import SELECTED_NODE, WAITS_FOR_CONSUMER, class_of
from kubeocean.kube.meta import Json, annotations_of, is_deleting, name_of, namespace_of


def unbound_claims(story: PodStory) -> list[str]:
    """Return the claims of the virtual cluster that the Pod names and that have no volume, each with its phase and a remedy."""
    return [
        f"{describe(each.claim)}, which is {_phase(each.claim)}: {_why(each, story)}"
        for each in story.claims if not is_bound(each.claim)
    ]


def unbound_copies(copies: Iterable[Json], binding: str) -> Iterator[str]:
    """Yield the claims in the physical cluster that have no volume yet."""
    for copy in copies:
        if copy.get("kind") == CLAIM and not is_bound(copy):
            where = f"in the physical cluster of ClusterBinding {binding}"
            yield f"{describe(copy)} {where}, which is {_phase(copy)}: its lender sees why with `kubectl describe pvc`"


def _phase(claim: Json) -> str:
    phase = (claim.get("status") or {}).get("phase") or "Pending"
    return f"{phase} and being deleted" if is_deleting(claim) else phase


def _why(named: NamedClaim, story: PodStory) -> str:
    claim, name = named.claim, class_of(named.claim)
    volume = claim["spec"].get("volumeName")
    if (claim.get("status") or {}).get("phase") == "Lost":
        return f"PersistentVolume {volume or 'it was bound to'} is gone; bring it back, or make the claim anew without its data"
    if volume:
        return f"it names PersistentVolume {volume}, which is not bound to it: `kubectl describe pv {volume}`"
    if named.class_gone:
        return f"there is no StorageClass {name}: create it, or make the claim anew with one that exists"
    if not name:
        return "it names no StorageClass, so a PersistentVolume that fits must be made for it"
    if node := annotations_of(claim).get(SELECTED_NODE):
        return f"a volume of StorageClass {name} is being made for node {node}: {_ask(claim)}"
    if binding := annotations_of(claim).get(names.BINDING_OF_CLAIM_ANNOTATION):
        return f"ClusterBinding {binding} is to have its volume made: {_ask(claim)}"
    if named.storage_class is None:
        return _ask(claim)
    if named.storage_class.get("volumeBindingMode") == WAITS_FOR_CONSUMER:
        return _first_consumer(name, story)
    return (
        f"StorageClass {name} binds at once, and its provisioner {named.storage_class.get('provisioner')} has made no volume: "
        f"{_ask(claim)}; to have it made in a physical cluster annotate the claim with {names.BINDING_OF_CLAIM_ANNOTATION}: "
        "NAME-OF-CLUSTERBINDING"
    )


def _first_consumer(name: str, story: PodStory) -> str:
    if story.node:
        return (
            f"StorageClass {name} ({WAITS_FOR_CONSUMER}) waits for a scheduler to choose the node, and none did, because "
            f"spec.nodeName was given: name the node in a nodeSelector (kubernetes.io/hostname: {story.node}) instead"
        )
    return f"usual with StorageClass {name} ({WAITS_FOR_CONSUMER}), whose volume is made once a node is chosen"


def _ask(claim: Json) -> str:
    return f"`kubectl -n {namespace_of(claim)} describe pvc {name_of(claim)}` tells more"
