from __future__ import annotations

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge

from controlplane.api.metrics import metrics_app, render


def test_counters_have_istiods_names() -> None:
    registry = CollectorRegistry()
    Counter("pilot_xds_pushes", "Pushes.", ["type"], registry=registry).labels(type="cds").inc(2)
    Counter("citadel_server_csr_count", "CSRs.", registry=registry).inc()
    Counter("galley_validation_passed", "Admissions.", registry=registry).inc()
    Gauge("pilot_services", "Services.", registry=registry).set(3)
    Counter("process_things", "Not istiod's.", registry=registry).inc()

    page = render(registry).decode().splitlines()

    assert "# TYPE pilot_xds_pushes counter" in page
    assert 'pilot_xds_pushes{type="cds"} 2.0' in page
    assert "citadel_server_csr_count 1.0" in page
    assert "galley_validation_passed 1.0" in page
    assert "pilot_services 3.0" in page
    assert "process_things_total 1.0" in page


async def test_the_page_is_at_metrics() -> None:
    registry = CollectorRegistry()
    Gauge("pilot_services", "Services.", registry=registry).set(3)
    transport = httpx.ASGITransport(app=metrics_app(registry))
    async with httpx.AsyncClient(transport=transport, base_url="http://control-plane") as http:
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "pilot_services 3.0" in answer.text
