"""NetworkPolicies of the virtual cluster, as they hold in the one namespace where all physical Pods of a binding live.

There every virtual namespace is a label. So whatever a policy says of its own namespace is ANDed with that label, and a
namespaceSelector, which speaks of namespaces nobody knows there, becomes the list of those it means now; the empty one, which
means all of them, becomes the label that all our Pods have. IP blocks and ports stay.

What must never happen is that a copy allows more than its original. Hence the rule of empty lists: a rule without peers allows
everybody, so one whose peers all vanish in translation (no namespace matches) is dropped, and the policy types are spelt out,
or a policy whose egress rules were all dropped would no longer speak of egress at all.

What a copy allows less: peers that run elsewhere (in the virtual cluster itself, or with another binding) have no Pod here that
a selector could mean; only an ipBlock reaches them. `docs/networking.md` says so to users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.domain.mirrors import build_copy
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json, labels_of, namespace_of
from kubeocean.kube.resources import NETWORKPOLICIES
from kubeocean.kube.selectors import compile_label_selector

Labels = Mapping[str, str]

_SIDES: Final = (("Ingress", "ingress", "from"), ("Egress", "egress", "to"))  # policy type, its rules, their peers
_PORT: Final = ("protocol", "port", "endPort")


def selects(policy: Json, pod: Json) -> bool:
    """Tell whether a NetworkPolicy holds for a Pod of its namespace."""
    return compile_label_selector(policy["spec"].get("podSelector") or {})(labels_of(pod))


def needs_namespaces(policy: Json) -> bool:
    """Tell whether translating a policy takes the labels of the virtual namespaces."""
    return any(_is_choosy(peer.get("namespaceSelector")) for rule, field in _rules_of(policy) for peer in rule.get(field) or ())


def map_policy(policy: Json, owner: Owner, mount_namespace: str, namespaces: Mapping[str, Labels]) -> Json:
    """Return the physical copy of a virtual NetworkPolicy.

    `namespaces` are the labels of all virtual namespaces by name; they may be left out for one that `needs_namespaces` not.
    """
    return build_copy(NETWORKPOLICIES, policy, {"spec": _map_spec(policy, owner, namespaces)}, owner, mount_namespace)


def policy_content(policy: Json) -> Json:
    """Return the fields of a physical NetworkPolicy that are ours to say."""
    spec = policy["spec"]
    content = {"podSelector": _map_selector(spec.get("podSelector")), "policyTypes": list(spec.get("policyTypes") or ())}
    for _, side, field in _SIDES:
        if rules := spec.get(side):  # the API server does not tell an empty list
            content[side] = [_kept_rule(rule, field) for rule in rules]
    return {"spec": content}


def _map_spec(policy: Json, owner: Owner, namespaces: Mapping[str, Labels]) -> Json:
    spec, namespace = policy["spec"], namespace_of(policy)
    mapped: Json = {
        "podSelector": _within(spec.get("podSelector"), [namespace]), "policyTypes": _policy_types(spec),
    }
    for _, side, field in _SIDES:
        rules = (
            _map_rule(rule, field, lambda peer: _map_peer(peer, namespace, owner, namespaces)) for rule in spec.get(side) or ()
        )
        if left := [rule for rule in rules if rule is not None]:
            mapped[side] = left
    return mapped


def _policy_types(spec: Json) -> list[str]:
    """Return what the policy speaks of; the API server fills it in like this (networking/v1 defaults)."""
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _map_rule(rule: Json, field: str, map_peer: Callable[[Json], Json | None]) -> Json | None:
    peers = [map_peer(peer) for peer in rule.get(field) or ()]
    left = [peer for peer in peers if peer is not None]
    if peers and not left:
        return None  # an empty list would mean everybody
    return _kept_rule({**rule, field: left}, field)


def _kept_rule(rule: Json, field: str) -> Json:
    ports = [_picked(port, _PORT) for port in rule.get("ports") or ()]
    peers = [_kept_peer(peer) for peer in rule.get(field) or ()]
    return {name: value for name, value in (("ports", ports), (field, peers)) if value}


def _kept_peer(peer: Json) -> Json:
    kept = {field: _map_selector(peer[field]) for field in ("podSelector", "namespaceSelector") if peer.get(field) is not None}
    return {**kept, **_picked(peer, ("ipBlock",))}


def _map_peer(peer: Json, namespace: str, owner: Owner, namespaces: Mapping[str, Labels]) -> Json | None:
    """Return a peer as it is called in the mountNamespace, None for one that means nobody there."""
    if peer.get("ipBlock"):
        return {"ipBlock": peer["ipBlock"]}
    chosen = peer.get("namespaceSelector")
    if chosen is None:
        return {"podSelector": _within(peer.get("podSelector"), [namespace])}
    if not _is_choosy(chosen):
        return {"podSelector": _labelled(peer.get("podSelector"), names.OWNER_LABEL, [owner.label])}
    matches = compile_label_selector(chosen)
    # Pods of the excluded namespaces never run here; naming them would only lengthen the list.
    meant = sorted(name for name, labels in namespaces.items() if name not in names.EXCLUDED_NAMESPACES and matches(labels))
    return {"podSelector": _within(peer.get("podSelector"), meant)} if meant else None


def _within(selector: Json | None, namespaces: Iterable[str]) -> Json:
    return _labelled(selector, names.VIRTUAL_NAMESPACE_LABEL, namespaces)


def _labelled(selector: Json | None, label: str, values: Iterable[str]) -> Json:
    """Return `selector` ANDed with one more label; as an expression, for its own matchLabels may name the label already."""
    mapped = _map_selector(selector)
    ours = {"key": label, "operator": "In", "values": list(values)}
    return {**mapped, "matchExpressions": [*mapped.get("matchExpressions", ()), ours]}


def _map_selector(selector: Json | None) -> Json:
    return {field: selector[field] for field in ("matchLabels", "matchExpressions") if selector and selector.get(field)}


def _is_choosy(namespace_selector: Json | None) -> bool:
    return bool(_map_selector(namespace_selector))


def _rules_of(policy: Json) -> Iterable[tuple[Json, str]]:
    for _, side, field in _SIDES:
        for rule in policy["spec"].get(side) or ():
            yield rule, field


def _picked(value: Json, fields: Iterable[str]) -> Json:
    return {field: value[field] for field in fields if value.get(field) is not None}
