from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.hashing import content_hash
from kubeocean.kube.meta import Json

leaves = st.integers(0, 3) | st.text("ab", max_size=2)
objects = st.dictionaries(st.text("ab", max_size=2), st.recursive(leaves, lambda inner: st.lists(inner, max_size=2)))


def test_the_hash_is_the_same_in_every_process_and_version() -> None:
    # Pinned: a change of it rewrites every object in every cluster once.
    assert content_hash({"data": {"b": "2", "a": "1"}, "list": [1, None, True]}) == "786ea1db0084b875bbd01144057267d1"


def test_the_order_of_keys_does_not_matter_and_that_of_lists_does() -> None:
    assert content_hash({"a": {"x": 1, "y": 2}}) == content_hash({"a": {"y": 2, "x": 1}})
    assert content_hash({"a": [1, 2]}) != content_hash({"a": [2, 1]})


@given(objects, objects)
def test_equal_content_and_nothing_else_has_equal_hashes(one: Json, other: Json) -> None:
    assert (content_hash(one) == content_hash(other)) == (one == other)
