"""What the push service tells those who look after it: its page for Prometheus, and whether it is well."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families
from push_service_client import body_of, connected, sending

from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig
from meshd.push.service.metrics import FAMILIES


def read(page: str) -> dict[tuple[str, ...], float]:
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


async def test_the_page_counts_what_happened(nursery: trio.Nursery, tmp_path: Path):
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0"))
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        await sender.deliver(endpoint, b"1", b"2")
        assert (await sender.post(endpoint, ttl=None)).status_code == 400
        await agent.receive()
        await agent.settled()
        page = service.metrics()
    samples = read(page)
    for name, value in {
        ("meshd_pushservice_user_agents", "connected"): 1,
        ("meshd_pushservice_user_agents", "known"): 1,
        ("meshd_pushservice_channels",): 1,
        ("meshd_pushservice_messages_waiting",): 1,
        ("meshd_pushservice_events_total", "accepted_stored"): 2,
        ("meshd_pushservice_events_total", "acknowledged_100"): 1,
        ("meshd_pushservice_events_total", "refused_ttl_missing"): 1,
        ("meshd_pushservice_store_up",): 1,
    }.items():
        assert samples[name] == value, name
    assert samples["meshd_pushservice_connections",] >= 1
    assert samples["process_resident_memory_bytes",] > 1e6
    assert {family.name for family in FAMILIES} == {name for name, *_ in samples}
    for secret in (agent.uaid, endpoint.rpartition("/")[2], "127.0.0.1"):
        assert secret not in page


async def test_it_is_served_on_loopback_where_it_was_asked_for(nursery: trio.Nursery, tmp_path: Path):
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", metrics_port=port))
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "meshd_pushservice_build_info" in answer.text


async def test_it_is_not_well_while_it_cannot_write(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(max_database_size=300_000, max_stored_per_channel=1000, housekeeping_interval=0.05)
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    async with sending() as sender:
        health = f"{service.public_url}/healthz"
        async with connected(service.websocket_url) as agent:
            endpoint = await agent.register()
        accepted = 0
        while (await sender.post(endpoint, body=body_of(bytes(3900)))).status_code == 201:
            accepted += 1
        answer = await sender.http.get(health)
        assert (answer.status_code, answer.json()["status"]) == (503, "the database cannot be written")
        async with connected(service.websocket_url, agent.uaid) as agent:
            await agent.receive(accepted)
            # Nobody writes now; it finds out by itself that there is room again.
            with trio.fail_after(5):
                while (await sender.http.get(health)).status_code != 200:  # noqa: ASYNC110
                    await trio.sleep(0.02)
