from kubeocean.clusters.permissions import PHYSICAL_RULES, VIRTUAL_RULES, build_physical_rbac


def test_a_lender_grants_secrets_and_pod_writes_in_the_mount_namespace_only() -> None:
    for rule in PHYSICAL_RULES:
        if rule.resource == "secrets" or (rule.resource == "pods" and "create" in rule.verbs):
            assert rule.mounted, rule


def test_nothing_is_asked_for_with_a_wildcard() -> None:
    for rule in (*PHYSICAL_RULES, *(rule for rules in VIRTUAL_RULES.values() for rule in rules)):
        assert "*" not in (rule.group, rule.resource, *rule.verbs)
        assert rule.why


def test_the_printed_rbac_binds_the_user_to_a_cluster_role_and_a_role() -> None:
    objects = {obj["kind"]: obj for obj in build_physical_rbac(user="alice", mount_namespace="team-a")}
    assert set(objects) == {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    assert objects["Role"]["metadata"]["namespace"] == "team-a"
    assert objects["RoleBinding"]["subjects"][0]["name"] == "alice"
    granted = {(rule["resources"][0], verb) for rule in objects["ClusterRole"]["rules"] for verb in rule["verbs"]}
    assert ("pods", "create") not in granted
    assert ("secrets", "get") not in granted
