"""Nobody gets another's streams by creating a binding with his clusterID."""

from kubeocean.kube.store import Store
from kubeocean.proxier.proxier import _without_duplicates


def served(*bindings: tuple[str, str, str, str]) -> set[str]:
    """Return who is served; a binding is its name, its clusterID, when it was created, and the cluster's uid it has seen."""
    store: Store[None] = Store(summarise=lambda _: None)
    for name, cluster_id, created, uid in bindings:
        store.put({
            "metadata": {"name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": created},
            "spec": {"clusterID": cluster_id}, "status": {"physicalClusterUID": uid},
        })
    return set(_without_duplicates(store.entries()))


def test_of_two_with_one_cluster_id_the_older_is_served_and_others_are_not_concerned() -> None:
    assert served(
        ("z-first", "a", "2026-01-01T00:00:00Z", ""), ("a-second", "a", "2026-01-02T00:00:00Z", "uid"),
        ("other", "b", "2026-01-03T00:00:00Z", ""),
    ) == {"z-first", "other"}


def test_of_two_as_old_as_each_other_the_one_that_was_connected_is_served() -> None:
    same = "2026-01-01T00:00:00Z"
    assert served(("a", "x", same, ""), ("b", "x", same, "uid")) == {"b"}
