from hashlib import sha256

import pytest

from kubeocean.domain.ownership import (
    ClaimAction,
    Owner,
    build_claim_patch,
    build_namespace,
    build_release_patch,
    created_by_us,
    decide_claim,
    is_managed,
    is_ours,
)
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

US = Owner("uid-1", "edge")
OTHER_BINDING = Owner("uid-1", "core")
OTHER_BORROWER = Owner("uid-2", "edge")
CLAIMED_BY = "kubeocean.io/claimed-by"


def obj(labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **metadata: str) -> Json:
    return {"metadata": {"name": "borrowed", "labels": labels or {}, "annotations": annotations or {}, **metadata}}


def test_the_owner_label_is_a_hash_and_the_annotation_the_truth() -> None:
    assert US.annotation == "uid-1/edge"
    assert US.label == sha256(b"uid-1/edge").hexdigest()[:16]
    assert US.labels() == {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": US.label}
    assert US.annotations() == {"kubeocean.io/owner": "uid-1/edge"}
    assert Owner("uid-1", "edge") == US != OTHER_BINDING


OWNERSHIP: dict[str, tuple[Json, bool]] = {
    "both labels and the annotation": (obj(US.labels(), US.annotations()), True),
    "both labels without the annotation": (obj(US.labels()), True),
    "the annotation says another": (obj(US.labels(), OTHER_BORROWER.annotations()), False),
    "another binding's is foreign": (obj(OTHER_BINDING.labels(), OTHER_BINDING.annotations()), False),
    "another borrower's is foreign": (obj(OTHER_BORROWER.labels(), OTHER_BORROWER.annotations()), False),
    "the Go project's is foreign until it is adopted": (obj({"kubeocean.io/managed-by": "kubeocean"}), False),
    "an owner without managed-by": (obj({"kubeocean.io/owner": US.label}), False),
    "managed by somebody else": (obj({**US.labels(), "kubeocean.io/managed-by": "helm"}), False),
    "the annotation alone": (obj(annotations=US.annotations()), False),
    "a plain object": ({"metadata": {"name": "x"}}, False),
}


@pytest.mark.parametrize("promise", OWNERSHIP)
def test_is_ours(promise: str) -> None:
    candidate, ours = OWNERSHIP[promise]
    assert is_ours(candidate, US) is ours


def test_managed_means_any_kubeocean() -> None:
    assert is_managed(obj(OTHER_BORROWER.labels()))
    assert is_managed(obj({"kubeocean.io/managed-by": "kubeocean"}))
    assert not is_managed({"metadata": {"name": "x"}})


CLAIMS: dict[str, tuple[Json | None, ClaimAction, str, str]] = {
    "a missing namespace is created": (None, ClaimAction.CREATE, "NamespaceMissing", "does not exist"),
    "a namespace that is nobody's is claimed": (obj(), ClaimAction.CLAIM, "NamespaceUnclaimed", "nobody's"),
    "an empty claim is no claim": (obj(annotations={CLAIMED_BY: ""}), ClaimAction.CLAIM, "NamespaceUnclaimed", ""),
    "our own needs nothing": (obj(annotations={CLAIMED_BY: US.annotation}), ClaimAction.OURS, "NamespaceReady", "ours"),
    "another's is taken, with the remedy": (
        obj(annotations={CLAIMED_BY: "uid-2/edge"}),
        ClaimAction.TAKEN, "NamespaceClaimed", "choose another spec.mountNamespace",
    ),
    "another binding of ours takes it as well": (
        obj(annotations={CLAIMED_BY: OTHER_BINDING.annotation}),
        ClaimAction.TAKEN, "NamespaceClaimed", "claimed by uid-1/core",
    ),
    "a namespace that is going away is waited for": (
        obj(deletionTimestamp="2026-01-01T00:00:00Z"), ClaimAction.TERMINATING, "NamespaceTerminating", "being deleted",
    ),
    "our own that is going away is waited for": (
        obj(annotations={CLAIMED_BY: US.annotation}, deletionTimestamp="2026-01-01T00:00:00Z"),
        ClaimAction.TERMINATING, "NamespaceTerminating", "being deleted",
    ),
    "another's that is going away is still another's": (
        obj(annotations={CLAIMED_BY: "uid-2/edge"}, deletionTimestamp="2026-01-01T00:00:00Z"),
        ClaimAction.TAKEN, "NamespaceClaimed", "claimed by uid-2/edge",
    ),
}


@pytest.mark.parametrize("promise", CLAIMS)
def test_decide_claim(promise: str) -> None:
    namespace, action, reason, message = CLAIMS[promise]
    claim = decide_claim("borrowed", namespace, US)
    assert (claim.action, claim.reason) == (action, reason)
    assert message in claim.message
    assert "borrowed" in claim.message


def test_a_namespace_we_create_is_ours_claimed_and_may_be_removed_again() -> None:
    namespace = build_namespace("borrowed", US)
    assert (namespace["apiVersion"], namespace["kind"]) == ("v1", "Namespace")
    assert is_ours(namespace, US)
    assert created_by_us(namespace, US)
    assert decide_claim("borrowed", namespace, US).action is ClaimAction.OURS
    assert not created_by_us(namespace, OTHER_BINDING)


def test_a_claim_is_made_on_the_version_it_was_decided_on() -> None:
    lenders = obj(annotations={"team": "infra"}, resourceVersion="7")
    patch = build_claim_patch(lenders, US)
    assert patch["metadata"]["resourceVersion"] == "7"
    claimed = apply_merge(lenders, patch)
    assert decide_claim("borrowed", claimed, US).action is ClaimAction.OURS
    assert not is_managed(claimed)
    assert not created_by_us(claimed, US)


def test_a_released_namespace_keeps_no_trace() -> None:
    lenders = obj(annotations={"team": "infra"}, resourceVersion="7")
    claimed = apply_merge(lenders, build_claim_patch(lenders, US))
    assert apply_merge(claimed, build_release_patch(claimed)) == lenders


def test_a_namespace_we_made_is_the_lenders_once_it_is_released() -> None:
    made = build_namespace("borrowed", US)
    released = apply_merge(made, build_release_patch(made))
    assert not is_managed(released)
    assert not released["metadata"]["annotations"]
    assert not created_by_us(apply_merge(released, build_claim_patch(released, OTHER_BORROWER)), OTHER_BORROWER)


def test_a_namespace_that_an_earlier_owner_made_and_left_by_force_is_not_ours_to_delete() -> None:
    left = apply_merge(build_namespace("mount", OTHER_BORROWER), {"metadata": {
        "resourceVersion": "7", "annotations": {"kubeocean.io/claimed-by": None},
    }})
    claimed = apply_merge(left, build_claim_patch(left, US))
    assert not created_by_us(claimed, US)
    assert claimed["metadata"]["annotations"] == {"kubeocean.io/claimed-by": US.annotation}
    assert not claimed["metadata"].get("labels")
    by_hand = apply_merge(left, {"metadata": {"annotations": {"kubeocean.io/claimed-by": US.annotation}}})
    assert not created_by_us(by_hand, US)
