"""Where a volume can be reached from, told in the words of the other cluster.

A volume says it by labels of nodes. Virtual nodes carry the labels of the machines behind them, so a zone or rack means the
same on both sides; the names of nodes do not, nor the labels that only virtual nodes have. Down: names of virtual nodes
become those of physical ones; what is true of every virtual node of the binding is left out, and a term that can never hold
in this physical cluster goes. Up: names become those of virtual nodes, and every term also asks for the physical cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kubeocean.api import names
from kubeocean.domain.naming import label_value, vnode_name
from kubeocean.kube.meta import Json, labels_of, name_of
from kubeocean.kube.selectors import InvalidSelector, compile_node_selector

_PHYSICAL_NAME_LABELS = (names.PHYSICAL_NODE_NAME_LABEL, names.PHYSICAL_NODE_LABEL)
_NAME_FIELD = "metadata.name"


class NowhereToBeFound(ValueError):
    """No node of this physical cluster can reach the volume."""


@dataclass(frozen=True, slots=True)
class NodeNames:
    """The nodes of one physical cluster on both sides: virtual name -> physical name, and physical name -> hostname label."""

    cluster_id: str
    binding: str
    physical: Mapping[str, str] = field(default_factory=dict)
    hostnames: Mapping[str, str] = field(default_factory=dict)

    def constants(self) -> dict[str, str]:
        """Return the labels that every virtual node of the binding has, and no physical node."""
        cluster_id = label_value(self.cluster_id)
        return {
            names.CLUSTER_BINDING_LABEL: label_value(self.binding), names.PHYSICAL_CLUSTER_ID_LABEL: cluster_id,
            names.CLUSTER_ID_LABEL: cluster_id, names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE,
            names.VIRTUAL_KUBELET_LABEL: names.VIRTUAL_KUBELET_VALUE, names.NODE_TYPE_LABEL: names.NODE_TYPE_VIRTUAL,
            names.INSTANCE_TYPE_LABEL: names.INSTANCE_TYPE_VNODE, names.INSTANCE_TYPE_BETA_LABEL: names.INSTANCE_TYPE_VNODE,
        }


def read_node_names(nodes: Iterator[Json], cluster_id: str, binding: str) -> NodeNames:
    """Return the names of `nodes`, physical ones, leased or not: the volume outlives a lease."""
    physical: dict[str, str] = {}
    hostnames: dict[str, str] = {}
    for node in nodes:
        name = name_of(node)
        physical[vnode_name(cluster_id, name)] = name
        hostnames[name] = labels_of(node).get(names.HOSTNAME_LABEL, name)
    return NodeNames(cluster_id, binding, physical, hostnames)


def map_affinity_down(affinity: Json | None, nodes: NodeNames) -> Json | None:
    """Return a virtual volume's nodeAffinity for its twin, None for no restriction. Raises NowhereToBeFound."""
    terms = ((affinity or {}).get("required") or {}).get("nodeSelectorTerms") or []
    if not terms:
        return None
    mapped = [term for term in (_term_down(term, nodes) for term in terms) if term is not None]
    if not mapped:
        raise NowhereToBeFound(f"its nodeAffinity allows no node of the physical cluster of binding {nodes.binding}")
    if {} in mapped:
        return None  # one alternative asks for nothing but a virtual node of ours
    return {"required": {"nodeSelectorTerms": mapped}}


def _term_down(term: Json, nodes: NodeNames) -> Json | None:
    """Return the term with its questions translated, {} when all of them are answered with yes, None when one says no."""
    mapped: Json = {}
    for kind in ("matchExpressions", "matchFields"):
        questions = []
        for question in term.get(kind) or ():
            answer = _question_down(question, nodes)
            if answer is False:
                return None
            if answer is not True:
                questions.append(answer)
        if questions:
            mapped[kind] = questions
    return mapped


def _question_down(question: Json, nodes: NodeNames) -> Json | bool:
    """Return the question for the physical side, or its answer where it is the same for every node there."""
    key, operator, values = question["key"], question["operator"], question.get("values") or []
    if key in nodes.constants():
        return _holds(question, nodes.constants())
    if key == names.HOSTNAME_LABEL:
        return _among(question, [nodes.hostnames[nodes.physical[value]] for value in values if value in nodes.physical])
    if key == _NAME_FIELD:
        return _among(question, [nodes.physical[value] for value in values if value in nodes.physical])
    if key in _PHYSICAL_NAME_LABELS:
        by_label = {label_value(name): hostname for name, hostname in nodes.hostnames.items()}
        known = [by_label[value] for value in values if value in by_label]
        return _among({"key": names.HOSTNAME_LABEL, "operator": operator, "values": values}, known)
    return question


def _among(question: Json, translated: list[str]) -> Json | bool:
    match question["operator"]:
        case "In":
            return {**question, "values": translated} if translated else False
        case "NotIn":
            return {**question, "values": translated} if translated else True
        case "Exists":
            return True
        case "DoesNotExist":
            return False
        case _:
            return False  # nodes' names are no numbers


def _holds(question: Json, labels: Mapping[str, str]) -> bool:
    try:
        selector = compile_node_selector({"nodeSelectorTerms": [{"matchExpressions": [question]}]})
    except InvalidSelector:
        return False
    return selector({"metadata": {"name": "", "labels": dict(labels)}})


def map_affinity_up(affinity: Json | None, nodes: NodeNames) -> Json:
    """Return the nodeAffinity of a virtual volume whose data the physical cluster holds, where `affinity` is its own."""
    terms = ((affinity or {}).get("required") or {}).get("nodeSelectorTerms") or [{}]
    here = {
        "key": names.PHYSICAL_CLUSTER_ID_LABEL, "operator": "In", "values": [label_value(nodes.cluster_id)],
    }
    return {"required": {"nodeSelectorTerms": [_term_up(term, here, nodes) for term in terms]}}


def _term_up(term: Json, here: Json, nodes: NodeNames) -> Json:
    by_hostname = {nodes.hostnames[name]: vnode for vnode, name in nodes.physical.items()}
    by_name = {name: vnode for vnode, name in nodes.physical.items()}
    expressions = [_question_up(question, names.HOSTNAME_LABEL, by_hostname) for question in term.get("matchExpressions") or ()]
    fields = [_question_up(question, _NAME_FIELD, by_name) for question in term.get("matchFields") or ()]
    return {"matchExpressions": [*expressions, here], **({"matchFields": fields} if fields else {})}


def _question_up(question: Json, key: str, translated: Mapping[str, str]) -> Json:
    if question["key"] != key or not question.get("values"):
        return question
    return {**question, "values": [translated.get(value, value) for value in question["values"]]}
