from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.proxy import Proxy, ProxyType
from controlplane.model.status import State
from controlplane.model.store import Store
from controlplane.networking import build_routes
from controlplane.networking.build_cache import BuildCache
from controlplane.sources.files import FolderSource
from protos import type_urls
from sidecar.config.route import RouteConfiguration
from sidecar.http.headers import Headers
from sidecar.router.forward import Forward
from sidecar.router.match import RouteTable
from sidecar.xds.decode import decode_resource
from tests.support.requests import make_request

BOOKINFO = Path("deploy/examples/bookinfo")
PRODUCTPAGE = Proxy(
    id="sidecar~127.0.0.1~productpage.bookinfo~bookinfo.svc.cluster.local",
    type=ProxyType.SIDECAR,
    namespace="bookinfo",
    workload="productpage",
    ip="127.0.0.1",
)


@pytest.fixture
def routes(tmp_path: Path) -> RouteTable:
    """Returns the routes of productpage's sidecar for port 9080 with these files in the folder."""
    for name in ("services", "destination-rules", "reviews-jason-v3"):
        shutil.copy(BOOKINFO / f"{name}.yaml", tmp_path)
    store = Store(KINDS)
    FolderSource(tmp_path, store, lambda: None).load()
    snapshot, _ = store.build()
    assert {status.state for status in store.statuses()} == {State.APPLIED}
    message = build_routes(BuildCache(), snapshot, PRODUCTPAGE, ["9080"])["9080"]
    config = decode_resource(type_urls.ROUTE, message.SerializeToString())
    assert isinstance(config, RouteConfiguration)
    return RouteTable(config)


@pytest.mark.parametrize(
    ("headers", "cluster"),
    [
        ([(b"end-user", b"jason")], "outbound|9080|v3|reviews.bookinfo.svc.cluster.local"),
        ([(b"end-user", b"jasper")], "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"),
        ([], "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"),
    ],
)
def test_jason_alone_sees_v3(routes: RouteTable, headers: Headers, cluster: str) -> None:
    route = routes.match(make_request(b"/reviews/0", authority=b"reviews:9080", headers=headers))
    assert route is not None
    assert isinstance(route.action, Forward)
    assert route.action.choose().cluster == cluster
