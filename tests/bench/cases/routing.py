"""A large route configuration: 1000 virtual hosts, 5000 routes."""

from __future__ import annotations

from functools import partial

from tests.bench.case import Case
from tests.bench.documents import Document, cluster, document, http_filter, listener, virtual_host
from tests.bench.load.wrk import http_load
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic

VIRTUAL_HOSTS = 1000
ASKED = 50


def domain(number: int) -> str:
    return f"s{number}.default.svc.cluster.local"


def host_of(number: int) -> Document:
    """Five routes, of which the requests take the last."""
    version = {"name": "x-version", "string_match": {"exact": f"v{number}"}}
    before = [
        {"match": {"path": f"/v1/s{number}"}, "route": {"cluster": "upstream"}},
        {"match": {"prefix": "/", "headers": [version]}, "route": {"cluster": "upstream"}},
    ]
    names = [domain(number), f"s{number}", f"s{number}.default"]
    routes = [*before, *virtual_host()["routes"]]
    return virtual_host(name=f"s{number}", domains=names, routes=routes)


def routing(site: Site) -> Arrangement:
    port = site.free_port()
    filter_ = http_filter([host_of(number) for number in range(VIRTUAL_HOSTS)])
    return Arrangement(port=port, documents=[document([listener(port, filter_)], [cluster(site.upstream())])])


CASES = [
    Case(
        name="routing",
        title=f"HTTP/1.1 to {ASKED} of {VIRTUAL_HOSTS} virtual hosts with {5 * VIRTUAL_HOSTS} routes",
        start=traffic(
            routing,
            partial(http_load, hosts=[domain(n) for n in range(0, VIRTUAL_HOSTS, VIRTUAL_HOSTS // ASKED)]),
        ),
    )
]
