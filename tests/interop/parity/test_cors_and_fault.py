"""The filters that browsers and testers meet: cross-origin requests, and injected faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from tests.interop.parity.comparison import Difference, ProxyPair, Row, ask
from tests.interop.parity.conftest import proxy_pair

BOOTSTRAP = Template(Path(__file__).with_name("cors_and_fault_bootstrap.yaml").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyPair]:
    with proxy_pair(tmp_path_factory.mktemp("cors"), BOOTSTRAP, ("edge",)) as proxies:
        yield proxies


def row(
    line: str, *fields: str, host: str, expect: str = "200 ok | open", differs: Difference | None = None
) -> Row:
    return Row(request=ask(line, *fields, host=host), expect=expect, listener="edge", differs=differs)


def simple(path: str, origin: str, *fields: str, expect: str = "200 ok | open") -> Row:
    return row(f"GET {path}", f"origin: {origin}", *fields, host="cors.test", expect=expect)


def preflight(path: str, origin: str, *fields: str, expect: str = "200 | open") -> Row:
    asked = (f"origin: {origin}", "access-control-request-method: DELETE", *fields)
    return row(f"OPTIONS {path}", *asked, host="cors.test", expect=expect)


def fault(path: str, *fields: str, expect: str, host: str = "fault.test") -> Row:
    return row(f"GET {path}", *fields, host=host, expect=expect)


def asked(*fields: str, expect: str = "200 ok | open") -> Row:
    return fault("/", "x-fault: asked", *fields, expect=expect, host="asked.test")


FORWARDED = "200 ok | open"
CORS = {
    "an exact origin": simple("/whole", "https://exact.test"),
    "an origin by its prefix": simple("/whole", "https://prefix.anything"),
    "an origin by its suffix": simple("/whole", "https://a.SUFFIX.test"),
    "an origin by a regular expression": simple("/whole", "https://re12.test"),
    "another origin": simple("/whole", "https://other.test"),
    "an empty origin": simple("/whole", ""),
    "a failure": simple("/whole", "https://exact.test", "answer: 500", expect="500"),
    "a direct response": simple("/direct", "https://host.test", expect="418"),
    "without a policy": row("GET /", "origin: https://host.test", host="forwarding.test"),
    "of the virtual host": simple("/", "https://host.test"),
    "of the weighted cluster": preflight("/weighted", "https://host.test"),
    "a preflight": preflight("/whole", "https://exact.test"),
    "a preflight with headers": preflight(
        "/whole", "https://exact.test", "access-control-request-headers: x-z"
    ),
    "a preflight to a private network": preflight(
        "/whole", "https://exact.test", "access-control-request-private-network: true"
    ),
    "a preflight to another network": preflight(
        "/whole", "https://exact.test", "access-control-request-private-network: false"
    ),
    "a preflight of another origin": preflight("/whole", "https://other.test", expect=FORWARDED),
    "a preflight of another origin, answered": preflight("/unmatched", "https://other.test"),
    "a preflight of the virtual host": preflight("/", "https://host.test"),
    "a preflight for everything": preflight(
        "/everything", "null", "access-control-request-headers: x-y, x-z"
    ),
    "a preflight for everything, without headers": preflight("/everything", "https://any.test"),
    "everything": simple("/everything", "https://any.test"),
    "OPTIONS that asks for nothing": row(
        "OPTIONS /whole", "origin: https://exact.test", host="cors.test", expect=FORWARDED
    ),
    "in the shadow": simple("/shadow", "https://host.test"),
    "a preflight in the shadow": preflight("/shadow", "https://host.test", expect=FORWARDED),
    "off": preflight("/off", "https://host.test", expect=FORWARDED),
    "disabled": preflight("/disabled", "https://host.test", expect=FORWARDED),
}
ABORTED = "503 fault filter abort | open"
FAULTS = {
    "the virtual host's": fault("/", expect="418 fault filter abort | open"),
    "the route's": fault("/abort-503", expect=ABORTED),
    "more than all": fault("/more-than-all", expect=ABORTED),
    "never": fault("/never", expect="200 ok | open"),
    "without a percentage": fault("/unsaid", expect="200 ok | open"),
    "none on the route": fault("/none", expect="200 ok | open"),
    "without a policy": fault("/", expect="200 ok | open", host="forwarding.test"),
    "a delay, which is not part of the timeout": fault("/delay", expect="200 ok | open"),
    "a delay, then an abort": fault("/delay-and-abort", expect="429 fault filter abort | open"),
    "a gRPC status for a request that is not gRPC": fault("/grpc", expect="200 fault filter abort | open"),
    "no more active faults": fault("/no-more", expect="200 ok | open"),
    "of the cluster": fault("/of-cluster", expect=ABORTED),
    "of a cluster that is missing": fault("/of-missing-cluster", expect=ABORTED),
    "of another cluster": fault("/of-another-cluster", expect="200 ok | open"),
    "of the client's node": fault("/of-node", "x-envoy-downstream-service-node: b", expect=ABORTED),
    "of another node": fault("/of-node", "x-envoy-downstream-service-node: c", expect="200 ok | open"),
    "of no node": fault("/of-node", expect="200 ok | open"),
    "with all headers": fault("/of-headers", "x-a: 1", "x-b: any", expect=ABORTED),
    "with one of the headers": fault("/of-headers", "x-a: 1", expect="200 ok | open"),
    "a slow response": fault("/slow", expect="200 ok | open"),
    "a slow abort": fault("/slow-abort", expect=ABORTED),
    "a direct response": fault("/direct", expect="418 fault filter abort | open"),
    "a WebSocket": row(
        "GET /abort-503", "connection: upgrade", "upgrade: websocket", host="fault.test", expect="403"
    ),
}
ASKED = {
    "nothing": asked(),
    "a status": asked("x-envoy-fault-abort-request: 404", expect="404 fault filter abort | open"),
    "a status and its share": asked(
        "x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-request-percentage: 100", expect="404"
    ),
    "a status, never": asked("x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-request-percentage: 0"),
    "a share that is no number": asked(
        "x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-request-percentage: -1", expect="404"
    ),
    "a share of more than 32 bits": asked(
        "x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-request-percentage: 4294967296", expect="404"
    ),
    "a status below 200": asked("x-envoy-fault-abort-request: 199"),
    "a status above 599": asked("x-envoy-fault-abort-request: 600"),
    "a status that is no number": asked("x-envoy-fault-abort-request: teapot"),
    "a status in spaces": asked("x-envoy-fault-abort-request:   404  ", expect="404"),
    "two statuses": asked(
        "x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-request: 405", expect="404"
    ),
    "a gRPC status": asked("x-envoy-fault-abort-grpc-request: 5", expect="200 fault filter abort | open"),
    "a gRPC status that is no number": asked("x-envoy-fault-abort-grpc-request: x"),
    "both statuses": asked(
        "x-envoy-fault-abort-request: 404", "x-envoy-fault-abort-grpc-request: 5", expect="404"
    ),
    "more than the configuration allows": fault(
        "/half-at-most",
        "x-envoy-fault-abort-request: 404",
        "x-envoy-fault-abort-request-percentage: 100",
        expect="200 ok | open",
    ),
    "a delay": asked("x-envoy-fault-delay-request: 20"),
    "a delay of 0": asked("x-envoy-fault-delay-request: 0"),
    "a delay that is no number": asked("x-envoy-fault-delay-request: 1s"),
    "a rate": asked("x-envoy-fault-throughput-response: 1"),
    "a rate of 0": asked("x-envoy-fault-throughput-response: 0"),
}


def test_an_expectation_is_passed_on_if_the_upstream_meets_it(pair: ProxyPair) -> None:
    expecting = ask("POST /", "expect: 100-continue", host="forwarding.test", body="hello")
    pair.check(Row(request=expecting, expect="200 ok | open", listener="edge"))


@pytest.mark.parametrize("row", CORS.values(), ids=list(CORS))
def test_cross_origin_requests(pair: ProxyPair, row: Row) -> None:
    pair.check(row)


@pytest.mark.parametrize("row", FAULTS.values(), ids=list(FAULTS))
def test_faults(pair: ProxyPair, row: Row) -> None:
    pair.check(row)


@pytest.mark.parametrize("row", ASKED.values(), ids=list(ASKED))
def test_faults_that_the_request_asks_for(pair: ProxyPair, row: Row) -> None:
    pair.check(row)
