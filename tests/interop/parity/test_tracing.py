"""Tracing without a provider: no span is reported, but the operation's name and the decision whether to trace
travel in headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from string import Template
from typing import Any

import pytest

from tests.interop.parity.comparison import OWN_WORDS, ProxyPair, Row, ask
from tests.interop.parity.conftest import proxy_pair

TYPE = "type.googleapis.com"
MANAGER = f"{TYPE}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{TYPE}/envoy.extensions.filters.http.router.v3.Router"
UUID = f"{TYPE}/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
OPERATION = "x-envoy-decorator-operation"


def forward(path: str, cluster: str = "upstream", **options: Any) -> dict[str, Any]:
    return {"match": {"path": path}, "route": {"cluster": cluster}, **options}


def decorator(operation: str, **options: Any) -> dict[str, Any]:
    return {"operation": operation, **options}


def share(numerator: int, denominator: str = "HUNDRED") -> dict[str, Any]:
    return {"numerator": numerator, "denominator": denominator}


ROUTES = [
    forward("/decorated", decorator=decorator("of-route")),
    forward("/kept", decorator=decorator("of-route", propagate=False)),
    forward("/lost", "missing", decorator=decorator("of-lost")),
    forward(
        "/removed",
        decorator=decorator("of-route"),
        request_headers_to_remove=[OPERATION],
        response_headers_to_remove=[OPERATION],
    ),
    forward(
        "/set",
        decorator=decorator("of-route"),
        response_headers_to_add=[{"header": {"key": OPERATION, "value": "added"}}],
    ),
    {
        "match": {"path": "/direct"},
        "direct_response": {"status": 418, "body": {"inline_string": "short"}},
        "decorator": decorator("of-direct"),
    },
    {
        "match": {"path": "/redirect"},
        "redirect": {"host_redirect": "other.test"},
        "decorator": decorator("of-redirect"),
    },
    forward("/never", tracing={"random_sampling": share(0)}),
    forward("/half", tracing={"random_sampling": share(5000, "TEN_THOUSAND")}),
    forward("/tiny", tracing={"random_sampling": share(500, "MILLION")}),
    forward("/not-overall", tracing={"overall_sampling": share(0)}),
    forward("/not-clients", tracing={"client_sampling": share(0), "random_sampling": share(0)}),
    forward("/clients", tracing={"client_sampling": share(100), "random_sampling": share(0)}),
    {"match": {"path": "/matched", "headers": [{"name": OPERATION}]}, "route": {"cluster": "upstream"}},
    forward("/"),
]

PROBE = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}


def manager(**options: Any) -> dict[str, Any]:
    hosts = [
        {"name": "all", "domains": ["*"], "routes": ROUTES},
        {"name": "probe", "domains": ["probe.test"], "routes": [PROBE]},
    ]
    return {
        "@type": MANAGER,
        "delayed_close_timeout": "0.05s",
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"name": "r", "validate_clusters": False, "virtual_hosts": hosts},
        **options,
    }


def extension(**options: Any) -> dict[str, Any]:
    return {"request_id_extension": {"typed_config": {"@type": UUID, **options}}}


def percent(value: float) -> dict[str, float]:
    return {"value": value}


EDGE = {"use_remote_address": True}
LISTENERS: dict[str, tuple[str, dict[str, Any]]] = {
    "edge": ("OUTBOUND", {**EDGE, "tracing": {}}),
    "believing_edge": ("INBOUND", {**EDGE, "preserve_external_request_id": True, "tracing": {}}),
    "outbound": ("OUTBOUND", {"tracing": {}}),
    "inbound": ("INBOUND", {"tracing": {}}),
    "unspecified": ("UNSPECIFIED", {"tracing": {}}),
    "spawning": ("OUTBOUND", {"tracing": {"spawn_upstream_span": True}}),
    "by_client": ("OUTBOUND", {"tracing": {"client_sampling": percent(0.9), "random_sampling": percent(0)}}),
    "quarter": ("OUTBOUND", {"tracing": {"client_sampling": percent(0), "random_sampling": percent(25.567)}}),
    "unsampled": ("OUTBOUND", {"tracing": {"overall_sampling": percent(0)}}),
    "tenth": ("OUTBOUND", {"tracing": {"overall_sampling": percent(10)}}),
    "unpacked": ("OUTBOUND", {"tracing": {}, **extension(pack_trace_reason=False)}),
    "independent": ("OUTBOUND", {"tracing": {}, **extension(use_request_id_for_trace_sampling=False)}),
    "without_ids": ("OUTBOUND", {"tracing": {}, "generate_request_id": False}),
    "untraced": ("OUTBOUND", {}),
    "untraced_edge": ("OUTBOUND", {**EDGE, "preserve_external_request_id": True}),
    "untraced_unpacked": (
        "OUTBOUND",
        {**EDGE, "preserve_external_request_id": True, **extension(pack_trace_reason=False)},
    ),
}


def bootstrap() -> Template:
    """The names in braces are ports."""
    listeners = [
        {
            "name": name,
            "traffic_direction": direction,
            "address": address(f"${{{name}}}"),
            "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager(stat_prefix=name, **options)}]}
            ],
        }
        for name, (direction, options) in LISTENERS.items()
    ]
    endpoint = {"endpoint": {"address": address("${upstream}")}}
    cluster = {
        "name": "upstream",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    config = {
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": address("${admin}")},
        "static_resources": {"listeners": listeners, "clusters": [cluster]},
    }
    return Template(json.dumps(config))


def address(port: str) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyPair]:
    with proxy_pair(tmp_path_factory.mktemp("tracing"), bootstrap(), tuple(LISTENERS)) as proxies:
        yield proxies


Rows = dict[str, Row]


def get(listener: str, path: str, *fields: str, expect: str = "200 ok | open") -> Row:
    request = ask(f"GET {path}", *fields, host="traced.test")
    local = expect in ("403", "404", "503")
    return Row(request=request, expect=expect, listener=listener, differs=OWN_WORDS if local else None)


def operations() -> Rows:
    """Every place that names an operation, with and without a name of the client's."""
    expected = {"/direct": "418", "/redirect": "301", "/lost": "503", "/nowhere": "404"}
    rows: Rows = {}
    for listener in ("edge", "believing_edge", "outbound", "inbound", "unspecified", "spawning", "untraced"):
        for path in ("/", "/decorated", "/kept", "/removed", "/set", *expected):
            expect = expected.get(path, "200 ok | open")
            rows[f"{listener} {path}"] = get(listener, path, expect=expect)
            named = get(listener, path, f"{OPERATION}: of-client", expect=expect)
            rows[f"{listener} {path}, named by the client"] = named
        for answer in ("decorated", "decorated with nothing"):
            rows[f"{listener}, {answer} by the upstream"] = get(listener, "/", f"answer: {answer}")
            rows[f"{listener} /decorated, {answer} by the upstream"] = get(
                listener, "/decorated", f"answer: {answer}"
            )
        both = get(listener, "/decorated", f"{OPERATION}: of-client", "answer: decorated")
        rows[f"{listener}, named by the client and by the upstream"] = both
        rows[f"{listener}, named with nothing"] = get(listener, "/decorated", f"{OPERATION}:")
        refused = get(listener, "/decorated", "connection: upgrade", "upgrade: websocket", expect="403")
        rows[f"{listener}, a refused upgrade"] = refused
    matched = get("inbound", "/matched", f"{OPERATION}: of-client")
    return {**rows, "a route that is matched by the client's name": matched}


def identified(listener: str, path: str, number: int, digit: str, *fields: str) -> Row:
    """A request with an id. A `number` below 10 000 says in which shares the request is."""
    request_id = f"x-request-id: {number:08x}-1111-{digit}111-8111-111111111111"
    return get(listener, path, request_id, *fields)


def decisions() -> Rows:
    rows: Rows = {}
    listeners = (
        "believing_edge", "outbound", "inbound", "by_client", "quarter", "unsampled", "tenth", "unpacked",
        "independent", "untraced", "untraced_edge", "untraced_unpacked",
    )  # fmt: skip
    for listener in listeners:
        for digit in "149ab":
            rows[f"{listener}, digit {digit}"] = identified(listener, "/", 5000, digit)
        rows[f"{listener}, asked by the client"] = identified(
            listener, "/", 5000, "4", "x-client-trace-id: 7"
        )
        rows[f"{listener}, forced"] = identified(listener, "/", 9999, "4", "x-envoy-force-trace: 1")
    for path in ("/never", "/half", "/tiny", "/not-overall", "/not-clients", "/clients"):
        for digit in "49":
            rows[f"{path}, digit {digit}"] = identified("tenth", path, 7000, digit)
        rows[f"{path}, asked by the client"] = identified("tenth", path, 7000, "4", "x-client-trace-id: 7")
    for listener, path, bound in (
        ("quarter", "/", 2556),
        ("tenth", "/", 1000),
        ("outbound", "/half", 5000),
        ("outbound", "/tiny", 500),
    ):
        rows[f"{listener} {path}, below its share"] = identified(listener, path, bound - 1, "4")
        rows[f"{listener} {path}, at its share"] = identified(listener, path, bound, "4")
        rows[f"{listener} {path}, beyond 10 000"] = identified(listener, path, bound + 10_000 - 1, "4")
    return rows


ODD_IDS = (
    "short", "1234567", "g2345678-1111-4111-8111-111111111111", "+2345678-1111-4111-8111-111111111111",
    "12345_78-1111-4111-8111-111111111111", "0x123456-1111-4111-8111-111111111111",
    "ABCDEF12-1111-4111-8111-111111111111",
    "12345678-1111-4111-8111-1111111111111", "12345678901234567890123456789012345x", "",
)  # fmt: skip


def odd_ids() -> Rows:
    """Ids that are no UUIDs."""
    return {
        f"{listener}, {request_id!r}": get(listener, "/", f"x-request-id: {request_id}")
        for listener in ("outbound", "believing_edge", "unsampled", "untraced_edge")
        for request_id in ODD_IDS
    }


def generated() -> Rows:
    listeners = ("edge", "outbound", "unsampled", "unpacked", "independent", "without_ids", "untraced")
    return {
        **{f"{listener}, without an id": get(listener, "/") for listener in listeners},
        "asked by the client, without an id": get("outbound", "/", "x-client-trace-id: 7"),
    }


ROWS = {**operations(), **decisions(), **odd_ids(), **generated()}


@pytest.mark.parametrize("name", ROWS)
def test_the_headers_of_traces(pair: ProxyPair, name: str) -> None:
    pair.check(ROWS[name])
