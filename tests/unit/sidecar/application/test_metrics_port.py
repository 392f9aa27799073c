from __future__ import annotations

from collections.abc import Mapping

import pytest

from sidecar.application.metrics_port import ApplicationSettings, MetricsPort
from sidecar.config.application import AppProber, TcpSocketAction
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import BootstrapError
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import DownstreamConnection
from tests.support.requests import make_request

PROBERS = {"/app-health/web/livez": AppProber(action=TcpSocketAction(port=1), timeout_s=1.0)}


async def own(request: Request) -> Response:
    return Response(200, [])


def settings(app_probers: Mapping[str, AppProber] = {}, *, node_id: str = "") -> ApplicationSettings:
    return ApplicationSettings(
        app_probers=app_probers, prometheus_scrape=None, metrics_port=15020, node_id=node_id
    )


@pytest.mark.parametrize(
    ("client", "status"),
    [
        *[("127.0.0.1", 200), ("::1", 200), ("10.0.0.5", 403), ("fd00::5", 403)],
        *[("127.0.0.6", 403), ("::6", 403)],  # the proxy, for a client of the cluster
    ],
)
async def test_only_the_pod_itself_may_end_the_process(client: str, status: int) -> None:
    quits: list[None] = []
    port = MetricsPort(settings(), own, quit_=lambda: quits.append(None))
    local = SocketAddress("10.0.0.5", 15020)
    connection = DownstreamConnection(id=1, remote_address=SocketAddress(client, 40000), local_address=local)
    request = make_request(
        b"/quitquitquit", method=b"POST", authority=b"localhost:15020", connection=connection
    )
    assert (await port(request)).status == status
    assert len(quits) == (status == 200)


@pytest.mark.parametrize("node_id", ["", "sidecar~web~web.default~default.svc.cluster.local"])
async def test_probes_need_the_address_of_the_pod(node_id: str) -> None:
    with pytest.raises(BootstrapError, match="need the pod's IP address"):
        MetricsPort(settings(PROBERS, node_id=node_id), own, quit_=lambda: None)


async def test_without_probes_the_node_id_may_be_anything() -> None:
    port = MetricsPort(settings(node_id="laptop"), own, quit_=lambda: None)
    assert (await port(make_request(b"/metrics?x"))).status == 200
    assert (await port(make_request(b"/app-health/web/livez"))).status == 404
