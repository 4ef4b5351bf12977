"""NetworkPolicies as they hold in the mountNamespace: golden pairs of specs, and what must be true of every one."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.mirrors import Change, Create, decide_copy
from kubeocean.domain.netpolicymap import map_policy, needs_namespaces, policy_content, selects
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json
from kubeocean.kube.selectors import compile_label_selector

GOLDEN = sorted(Path(__file__).with_name("netpolicymap").glob("*.input.yaml"))
OWNER = Owner("uid", "edge")
NAMESPACES = {
    "team": {"stage": "prod"}, "other": {"stage": "prod"}, "third": {}, "kube-system": {"stage": "prod"},
}


def policy(spec: Json) -> Json:
    return {"metadata": {"name": "p", "namespace": "team", "uid": "u"}, "spec": spec}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_map_policy(case: Path) -> None:
    original = policy(yaml.safe_load(case.read_text())["policy"])
    before = copy.deepcopy(original)
    mapped = map_policy(original, OWNER, "mount", NAMESPACES)
    assert mapped["spec"] == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert original == before
    assert decide_copy(mapped, {**mapped, "metadata": {**mapped["metadata"], "uid": "x"}}, policy_content) is None


ASKING = {
    "all namespaces": ({"namespaceSelector": {}}, False),
    "its own": ({"podSelector": {}}, False),
    "some": ({"namespaceSelector": {"matchLabels": {"a": "b"}}}, True),
}


@pytest.mark.parametrize("sentence", ASKING)
def test_namespaces_are_asked_for_only_by_a_selector_that_chooses(sentence: str) -> None:
    peer, asks = ASKING[sentence]
    assert needs_namespaces(policy({"egress": [{"to": [peer]}]})) is asks


def test_it_selects_by_the_labels_of_the_virtual_pod() -> None:
    chosen = policy({"podSelector": {"matchLabels": {"app": "web"}}})
    assert selects(chosen, {"metadata": {"labels": {"app": "web", "x": "y"}}})
    assert not selects(chosen, {"metadata": {}})
    assert selects(policy({}), {"metadata": {}})


def test_what_a_lender_opened_is_shut_again() -> None:
    wanted = map_policy(policy({"podSelector": {}, "policyTypes": ["Ingress"]}), OWNER, "mount", {})
    assert isinstance(decide_copy(wanted, None, policy_content), Create)
    stored = copy.deepcopy(wanted)
    stored["metadata"] |= {"uid": "x", "resourceVersion": "7"}
    stored["spec"]["ingress"] = [{}]
    step = decide_copy(wanted, stored, policy_content)
    patch = {"spec": {"ingress": None}, "metadata": {"resourceVersion": "7"}}
    assert step == Change(wanted["metadata"]["name"], patch, wanted)


LABELS = st.dictionaries(st.sampled_from(["app", "stage"]), st.sampled_from(["a", "b"]), max_size=2)
SELECTORS = st.one_of(st.just({}), st.builds(lambda labels: {"matchLabels": labels}, LABELS))
PEERS = st.fixed_dictionaries({}, optional={"podSelector": SELECTORS, "namespaceSelector": SELECTORS}).filter(bool)


@given(peers=st.lists(PEERS, min_size=1, max_size=3), labels=LABELS, namespace=st.sampled_from(["team", "other"]), stage=LABELS)
def test_a_copy_admits_exactly_the_pods_of_ours_that_the_original_admits(
    peers: list[Json], labels: dict[str, str], namespace: str, stage: dict[str, str]
) -> None:
    namespaces = {"team": {"stage": "a"}, "other": stage}
    original = policy({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]})
    mapped = map_policy(original, OWNER, "mount", namespaces)["spec"].get("ingress") or []

    def admits(peer: Json) -> bool:
        chosen = peer.get("namespaceSelector")
        here = namespace == "team" if chosen is None else compile_label_selector(chosen)(namespaces[namespace])
        return here and compile_label_selector(peer.get("podSelector") or {})(labels)

    twin = {**labels, **OWNER.labels(), "kubeocean.io/virtual-namespace": namespace}
    found = any(compile_label_selector(peer["podSelector"])(twin) for rule in mapped for peer in rule["from"])
    assert found == any(map(admits, peers))
