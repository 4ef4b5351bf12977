"""Everything one simulation knows: a binding, the policies of both sides, nodes, and who sits on them.

Files may hold a mix of both clusters' objects, so an object's side is read off the object: a Node with our labels is a
virtual one, a Pod on it a user's, and every other Pod is a lender's unless it carries the marks of a twin. What is given
later replaces what has the same name: a file beside live clusters asks *what if*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, SecretReference, parse_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.domain.lender import LenderView
from kubeocean.domain.naming import vnode_name
from kubeocean.domain.ownership import Owner, is_managed, is_ours
from kubeocean.domain.policies import ANY_BORROWER, Policy, read_lender_policy, read_policy, remembered_policy
from kubeocean.domain.requests import Requests, pod_requests, sum_requests
from kubeocean.domain.vnode import is_vnode_of, physical_name_of
from kubeocean.kube.meta import Json, annotations_of, key_of, labels_of, name_of
from kubeocean.kube.resources import NODES, PODS, Resource
from kubeocean.simulate.given import BadInput, Given, Side
from kubeocean.simulate.manifests import check_node, check_pod

_RESOURCES: Mapping[str, Resource] = {
    resource.kind: resource for resource in (CLUSTERBINDINGS, RESOURCELEASINGPOLICIES, NODES, PODS)
}


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. `vnodes` and `foreign` are by physical node, `pods` (users') by virtual node.

    `notes` are what the reader should know about how it was put together.
    """

    binding_name: str
    binding: ClusterBindingSpec
    policies: tuple[Policy, ...]
    lender: LenderView
    nodes: tuple[Json, ...]
    vnodes: Mapping[str, Json] = field(default_factory=dict)
    foreign: Mapping[str, Requests] = field(default_factory=dict)
    pods: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def build_world(
    given: Iterable[Given], *, binding: str = "", owner: Owner | None = None, lender_trouble: str = ""
) -> World:
    """Put the objects together for one binding. Raises BadInput with a line for each thing to mend.

    `binding` "" takes the only one there is. `owner` tells our twins exactly; without it a twin is known by its marks. An
    invalid policy of a live cluster counts as it does for the syncer, with a note. `lender_trouble` says why the lender's
    policies could not be read, "" when they were.
    """
    known, ignored, doubles = _latest(given)
    problems = [*doubles, *(line for each in known for line in _problems(each))]
    invalid = [line for each in known if each.live for line in _policy_problems(each)]
    if problems:
        raise BadInput(problems)
    notes = [lender_trouble] if lender_trouble else []
    notes += [f"ignored: {count} {kind}" for kind, count in sorted(ignored.items())] + invalid
    borrowed = [each for each in known if each.kind == RESOURCELEASINGPOLICIES.kind and each.side is not Side.PHYSICAL]
    lent = [each for each in known if each.kind == RESOURCELEASINGPOLICIES.kind and each.side is Side.PHYSICAL]
    name, spec, assumed = _choose_binding(known, borrowed or lent, binding)
    nodes, vnodes = _sort_nodes(known, spec.cluster_id)
    if not nodes:
        raise BadInput(["no Node is given: add the physical cluster's, such as the output of kubectl get nodes -o yaml"])
    foreign, pods, strangers = _sort_pods(known, spec.cluster_id, nodes, owner)
    if strangers:
        notes.append(f"left out: {strangers} Pods that are on none of these nodes")
    return World(
        name, spec, tuple(read_policy(each.obj) for each in borrowed), _view(lent, vnodes, lender_trouble),
        tuple(nodes[key] for key in sorted(nodes)), vnodes, foreign, pods, (*assumed, *notes),
    )


# --- reading and checking --------------------------------------------------------------------------------------------
def _latest(given: Iterable[Given]) -> tuple[list[Given], dict[str, int], list[str]]:
    """Return the objects of the kinds we know, each once; how many of other kinds there are; who is there twice."""
    known: dict[tuple[str, bool, str], Given] = {}
    ignored: dict[str, int] = {}
    doubles: list[str] = []
    for each in given:
        if each.kind not in _RESOURCES:
            ignored[each.kind] = ignored.get(each.kind, 0) + 1
            continue
        lent = each.side is Side.PHYSICAL and each.kind == RESOURCELEASINGPOLICIES.kind
        key = (each.kind, lent, str(key_of(each.obj)))
        before = known.get(key)
        if before and before.source == each.source and not each.live:
            doubles.append(f"{each.title}: metadata.name: is there twice; rename or remove one")
        known[key] = each
    return list(known.values()), ignored, doubles


def _problems(given: Given) -> list[str]:
    wanted, found = _RESOURCES[given.kind].api_version, given.obj.get("apiVersion")
    if found != wanted:
        return [f"{given.title}: apiVersion: {found!r} is not known here; write {wanted}"]
    if given.kind == NODES.kind:
        lines = check_node(given.obj)
    elif given.kind == PODS.kind:
        lines = check_pod(given.obj)
    elif given.kind == CLUSTERBINDINGS.kind:
        lines = _binding_problems(given.obj)
    else:
        return [] if given.live else _policy_problems(given)
    return [f"{given.title}: {line}" for line in lines]


def _binding_problems(obj: Json) -> list[str]:
    try:
        parse_binding(obj)
    except InvalidObject as error:
        return [str(problem) for problem in error.problems]
    return []


def _policy_problems(given: Given) -> list[str]:
    if given.kind != RESOURCELEASINGPOLICIES.kind:
        return []
    if not isinstance(given.obj.get("spec"), dict):
        return [f"{given.title}: spec: is required; write cluster, and what limits the lease"]
    read = read_lender_policy if given.side is Side.PHYSICAL else read_policy
    return [f"{given.title}: {problem}" for problem in read(given.obj).problems]


def _view(lent: list[Given], vnodes: Mapping[str, Json], trouble: str) -> LenderView:
    """Return what is known of the lender's policies; where they cannot be read, virtual nodes may remember some."""
    if lent or not trouble:
        return LenderView([read_lender_policy(each.obj) for each in lent])
    remembered = any(remembered_policy(vnode, names.LAST_VALID_LENDER_POLICY_ANNOTATION) for vnode in vnodes.values())
    return LenderView(None, trouble) if remembered else LenderView()


# --- whose is it? ----------------------------------------------------------------------------------------------------
def _choose_binding(
    known: list[Given], policies: list[Given], wanted: str
) -> tuple[str, ClusterBindingSpec, tuple[str, ...]]:
    bindings = {name_of(each.obj): each.obj for each in known if each.kind == CLUSTERBINDINGS.kind}
    if bindings:
        name = _only(sorted(bindings), wanted, "ClusterBinding")
        return name, parse_binding(bindings[name]), ()
    if not policies:
        raise BadInput(["no ResourceLeasingPolicy is given, and without one nothing is leased: add one with -f"])
    named = {str(each.obj["spec"].get("cluster") or ANY_BORROWER) for each in policies} - {ANY_BORROWER}
    name = _only(sorted(named), wanted, "policy's spec.cluster") if named else wanted or "borrower"
    identity = re.sub("[^a-z0-9]+", "-", name.lower())[:24].strip("-") or "borrower"
    spec = ClusterBindingSpec(
        cluster_id=identity, secret_ref=SecretReference(name=identity, namespace="default"), mount_namespace="kubeocean",
    )
    return name, spec, (f"no ClusterBinding is given: {name} is taken to select every node, with clusterID {identity}",)


def _only(names_known: list[str], wanted: str, what: str) -> str:
    if wanted and wanted not in names_known:
        raise BadInput([f"--binding {wanted}: no {what} has this name; choose one of {', '.join(names_known)}"])
    if not wanted and len(names_known) > 1:
        raise BadInput([f"several bindings are given; choose one with --binding: {', '.join(names_known)}"])
    return wanted or names_known[0]


def _sort_nodes(known: list[Given], cluster_id: str) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the physical nodes by name, and this binding's virtual nodes by the name of their physical one."""
    nodes: dict[str, Json] = {}
    vnodes: dict[str, Json] = {}
    for each in known:
        if each.kind != NODES.kind:
            continue
        ours = each.side is not Side.PHYSICAL and labels_of(each.obj).get(names.VIRTUAL_KUBELET_LABEL) is not None
        if ours and is_vnode_of(each.obj, cluster_id):
            vnodes[physical_name_of(each.obj)] = each.obj
        elif each.side is not Side.VIRTUAL and not (ours and is_managed(each.obj)):
            nodes[name_of(each.obj)] = each.obj
    return nodes, vnodes


def _sort_pods(
    known: list[Given], cluster_id: str, nodes: Mapping[str, Json], owner: Owner | None
) -> tuple[dict[str, Requests], dict[str, tuple[Json, ...]], int]:
    """Return what foreign Pods take by physical node, users' Pods by virtual node, and how many are on neither."""
    vnode_names = {vnode_name(cluster_id, node) for node in nodes}
    foreign: dict[str, list[Requests]] = {}
    pods: dict[str, list[Json]] = {}
    strangers = 0
    for each in known:
        if each.kind != PODS.kind:
            continue
        node = str(each.obj["spec"].get("nodeName") or "")
        if each.side is not Side.PHYSICAL and node in vnode_names:
            pods.setdefault(node, []).append(each.obj)
        elif each.side is not Side.VIRTUAL and node in nodes:
            if not _is_twin(each.obj, owner, vnode_name(cluster_id, node)):
                foreign.setdefault(node, []).append(pod_requests(each.obj))
        else:
            strangers += each.side is Side.EITHER
    return (
        {node: sum_requests(requests) for node, requests in foreign.items()},
        {node: tuple(sitting) for node, sitting in pods.items()}, strangers,
    )


def _is_twin(pod: Json, owner: Owner | None, vnode: str) -> bool:
    """Tell whether a physical Pod is this binding's own: the lease is measured without it."""
    if owner:
        return is_ours(pod, owner)
    return is_managed(pod) and annotations_of(pod).get(names.VIRTUAL_NODE_NAME_ANNOTATION) == vnode
