"""What the demo hands to kubectl is what the API takes and what the observations expect."""

import yaml

from kubeocean.api.binding import parse_binding
from kubeocean.api.policy import parse_policy
from kubeocean.demo.cast import HALF, LENDERS, REPLICAS, SLICE, deployment_manifest, lender_manifest, manifests
from kubeocean.domain.naming import vnode_name
from kubeocean.kube.quantity import Quantity
from kubeocean.sandbox.realnode.files import REAL_LABEL
from kubeocean.sandbox.realnode.images import TOOLBOX_IMAGES


def test_every_lender_has_a_valid_binding_and_a_valid_policy_for_it() -> None:
    for lender in LENDERS:
        binding, policy = yaml.safe_load_all(lender_manifest(lender))
        assert parse_binding(binding).cluster_id == lender.cluster_id
        assert parse_policy(policy).cluster == binding["metadata"]["name"] == lender.binding


def test_the_policies_lend_what_the_observations_expect() -> None:
    for lender in LENDERS:
        _, policy = yaml.safe_load_all(lender_manifest(lender))
        limits = {limit.resource: limit for limit in parse_policy(policy).resource_limits}
        assert {name: limit.percent for name, limit in limits.items() if limit.percent is not None} == lender.percent
        assert {name: limit.quantity for name, limit in limits.items() if limit.quantity is not None} == lender.quantity


def test_a_percentage_is_of_the_whole_and_a_quantity_is_itself() -> None:
    assert HALF.share("cpu", Quantity.parse("8")) == Quantity.parse("4")
    assert SLICE.share("memory", Quantity.parse("32Gi")) == Quantity.parse("8Gi")


def test_nobody_lends_more_than_there_is() -> None:
    assert SLICE.share("cpu", Quantity.parse("2")) == Quantity.parse("2")


def test_a_virtual_node_is_named_as_the_contract_says() -> None:
    assert HALF.vnode("node-2") == vnode_name(HALF.cluster_id, "node-2") == "vnode-c1-node-2"


def test_the_deployment_tolerates_virtual_nodes() -> None:
    spec = yaml.safe_load(deployment_manifest())["spec"]
    assert spec["replicas"] == REPLICAS
    assert spec["template"]["spec"]["tolerations"] == [
        {"key": "kubeocean.io/vnode", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_each_manifest_is_a_file_of_its_own() -> None:
    assert sorted(manifests()) == ["code-server.yaml", "lender-1.yaml", "lender-2.yaml"]


def test_where_there_is_a_real_node_code_servers_stay_away_from_it_and_hello_goes_there() -> None:
    spec = yaml.safe_load(deployment_manifest(real=True))["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": REAL_LABEL, "operator": "DoesNotExist"}]}
    assert spec["containers"], "what follows the affinity is still there"
    hello = yaml.safe_load(manifests(real=True)["hello.yaml"])
    assert hello["spec"]["nodeSelector"] == {REAL_LABEL: "true"}
    assert hello["spec"]["containers"][0]["image"] in TOOLBOX_IMAGES
