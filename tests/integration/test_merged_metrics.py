"""`/stats/prometheus` on the metrics port, with the metrics of a real application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.admin_client import Page, ask
from tests.support.envoy_config import bootstrap
from tests.support.probed_application import ProbedApplication, probed_application
from tests.support.running_sidecar import running

NODE = "sidecar~127.0.0.9~web.default~default.svc.cluster.local"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OWN = "envoy_server_live"
PAGE = b"# TYPE app_orders_total counter\napp_orders_total 7\napp_carts 2"


class Prometheus:
    """Scrapes one sidecar, in front of ``application``."""

    def __init__(self, port: int, application: ProbedApplication) -> None:
        self._port = port
        self.application = application

    def scrape(self, path: str = "/stats/prometheus", **headers: str) -> Page:
        return ask(
            self._port, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def serve(self, content_type: str, content: bytes = PAGE, *, sent_bytes: int | None = None) -> None:
        self.application.pages["/app"] = (content_type, content)
        self.application.sent_bytes = sent_bytes

    def failures(self) -> float:
        """The counter on the next page."""
        return samples(self.scrape())['istio_agent_scrape_failures_total{type="application"}']


def samples(page: Page) -> dict[str, float]:
    assert page.status == 200
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in page.body.splitlines()
        if not line.startswith("#")
    }


@contextmanager
def scraped(folder: Path, path: str = "/app", port: int | None = None) -> Iterator[Prometheus]:
    with probed_application() as application:
        scrape = json.dumps({"scrape": "true", "path": path, "port": str(port or application.server_port)})
        flags = ("--service-node", NODE, "--prometheus-scrape", scrape)
        with running(folder, bootstrap(), *flags) as sidecar:
            yield Prometheus(sidecar.port("metrics"), application)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraped(tmp_path_factory.mktemp("metrics")) as prometheus:
        yield prometheus


@pytest.mark.parametrize("path", ["/stats/prometheus", "/metrics"])
def test_the_page_ends_with_the_metrics_of_the_application(prometheus: Prometheus, path: str) -> None:
    prometheus.serve("text/plain")
    page = prometheus.scrape(path)
    assert page.content_type == TEXT
    assert page.body.endswith(PAGE.decode() + "\n")
    families = {family.name for family in text_string_to_metric_families(page.body)}
    assert {OWN, "app_orders", "app_carts", "istio_agent_scrapes"} <= families


def test_a_filter_is_for_the_own_metrics(prometheus: Prometheus) -> None:
    prometheus.serve("text/plain")
    page = prometheus.scrape("/stats/prometheus?filter=nothing")
    assert OWN not in page.body
    assert "app_orders_total 7" in page.body
    assert prometheus.scrape("/stats/prometheus?filter=(").status == 400


def test_the_application_sees_what_prometheus_accepts(prometheus: Prometheus) -> None:
    prometheus.serve("text/plain")
    prometheus.application.received.clear()
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"
    timeout = {"X_Prometheus_Scrape_Timeout_Seconds": "9.5"}
    prometheus.scrape(Accept=accept, User_Agent="Prometheus/3.0", Authorization="Bearer secret", **timeout)
    (received,) = prometheus.application.received
    assert (received.path, received.source) == ("/app", "127.0.0.6")
    assert received.headers == {
        "host": f"127.0.0.9:{prometheus.application.server_port}",
        "accept": accept,
        "user-agent": "Prometheus/3.0",
        "x-prometheus-scrape-timeout-seconds": "9.5",
    }


def test_open_metrics_end_with_the_mark_of_the_application(prometheus: Prometheus) -> None:
    prometheus.serve(OPEN_METRICS, PAGE + b"\n# EOF\n")
    page = prometheus.scrape()
    assert page.content_type == OPEN_METRICS
    assert page.body.count("# EOF") == 1
    assert page.body.endswith("# EOF\n")
    assert OWN in page.body


def test_metrics_that_are_not_text_are_left_out(prometheus: Prometheus) -> None:
    prometheus.serve("text/plain")
    before = prometheus.failures()
    prometheus.serve("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily")
    page = prometheus.scrape()
    assert page.content_type == TEXT
    assert OWN in page.body
    assert "app_carts" not in page.body
    prometheus.serve("text/plain")
    assert prometheus.failures() == before + 1


@pytest.mark.parametrize(
    ("content_type", "end"), [("text/plain", "counter\n"), (OPEN_METRICS, "counter\n# EOF\n")]
)
def test_a_page_that_is_cut_short_ends_after_a_line(
    prometheus: Prometheus, content_type: str, end: str
) -> None:
    prometheus.serve(content_type, sent_bytes=45)
    page = prometheus.scrape()
    assert page.body.endswith(f"# TYPE app_orders_total {end}")
    prometheus.serve("text/plain")
    assert prometheus.failures() > 0


@pytest.mark.parametrize("path", ["/hang", "/status/500"])
def test_the_own_metrics_are_served_when_the_application_fails(tmp_path: Path, path: str) -> None:
    with scraped(tmp_path, path) as prometheus:
        timeout = {"X_Prometheus_Scrape_Timeout_Seconds": "0.5"}
        assert samples(prometheus.scrape(**timeout))["istio_agent_scrapes_total"] == 1
        after = samples(prometheus.scrape(**timeout))
        assert after['istio_agent_scrape_failures_total{type="application"}'] == 2
        assert f"{OWN}{{}}" in after


def test_an_endless_page_ends_in_time(tmp_path: Path) -> None:
    with scraped(tmp_path, "/endless") as prometheus:
        page = prometheus.scrape(X_Prometheus_Scrape_Timeout_Seconds="0.5")
        assert OWN in page.body
        assert "xxx" not in page.body, "a line that has not ended"
        assert prometheus.failures() >= 1


def test_the_sidecar_cannot_scrape_itself(tmp_path: Path) -> None:
    scrape = json.dumps({"port": "15999"})
    flags = ("--service-node", NODE, "--prometheus-scrape", scrape, "--metrics-port", "15999")
    sidecar = running(tmp_path, bootstrap(), *flags)
    with pytest.raises(AssertionError, match="port 15999 is the proxy's own metrics port"):
        sidecar.__enter__()
