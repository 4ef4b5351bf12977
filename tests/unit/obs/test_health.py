from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kubeocean.obs.health import HealthServer, InvalidAddress, parse_bind_address

ADDRESSES = {":8081": (None, 8081), "127.0.0.1:80": ("127.0.0.1", 80), "[::1]:80": ("::1", 80), "0": None, "": None}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_are_read_as_go_programs_read_them(text: str) -> None:
    assert parse_bind_address(text, flag="--x") == ADDRESSES[text]


@pytest.mark.parametrize("text", ["8081", "localhost", ":http", ":70000"])
def test_a_bad_address_names_flag_and_remedy(text: str) -> None:
    with pytest.raises(InvalidAddress, match=r"--x.*write HOST:PORT"):
        parse_bind_address(text, flag="--x")


@pytest.fixture
async def server() -> AsyncIterator[HealthServer]:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    health = HealthServer(health_address="127.0.0.1:0", metrics_address="127.0.0.1:0", registry=registry)
    await health.start()
    yield health
    await health.stop()


async def get(server: HealthServer, which: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.ports[which]}{path}") as answer:
        return answer.status, await answer.text()


async def test_a_healthy_process_says_ok(server: HealthServer) -> None:
    assert await get(server, "health", "/healthz") == (200, "ok\n")


async def test_what_is_not_ready_is_named_and_does_not_make_it_unhealthy(server: HealthServer) -> None:
    server.ready["informers"] = lambda: "not synced yet"
    server.ready["other"] = lambda: None
    status, text = await get(server, "health", "/readyz")
    assert status == 503
    assert "[-] informers failed: not synced yet" in text
    assert "[+] other ok" in text
    assert (await get(server, "health", "/healthz"))[0] == 200


async def test_metrics_are_served_apart_from_health(server: HealthServer) -> None:
    status, text = await get(server, "metrics", "/metrics")
    assert status == 200
    assert "things_total 1.0" in text
    assert (await get(server, "health", "/metrics"))[0] == 404


async def test_an_address_of_zero_turns_a_server_off() -> None:
    health = HealthServer(health_address="0", metrics_address="0")
    await health.start()
    assert health.ports == {}
    await health.stop()
