"""A child's metrics stand on its parent's page as they stood on its own."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kubeocean.obs.relay import Relay


def samples(page: str) -> set[str]:
    return {line for line in page.splitlines() if not line.startswith("#")}


def test_every_sample_and_every_type_survives_the_way() -> None:
    own = CollectorRegistry()
    Counter("streams_total", "Streams.", ("kind",), registry=own).labels('a "b"\n').inc(3)
    Gauge("open", "Open ones.", registry=own).set(2)
    Histogram("seconds", "How long.", registry=own).observe(0.2)
    page = generate_latest(own).decode()
    relay, parent = Relay(), CollectorRegistry()
    parent.register(relay)
    assert samples(generate_latest(parent).decode()) == set()
    relay.take(page)
    shown = generate_latest(parent).decode()
    assert samples(shown) == samples(page)
    assert {line for line in page.splitlines() if line.startswith("# TYPE")} <= set(shown.splitlines())
    relay.take("open 5.0\n")
    assert samples(generate_latest(parent).decode()) == {"open 5.0"}
    relay.forget()
    assert generate_latest(parent) == b""


def test_what_is_no_page_is_refused_and_changes_nothing() -> None:
    relay = Relay()
    relay.take("open 5.0\n")
    with pytest.raises(ValueError, match=r"^"):
        relay.take("{")
    assert [family.name for family in relay.collect()] == ["open"]
