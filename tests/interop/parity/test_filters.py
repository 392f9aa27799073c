"""HTTP filters, and their configurations on routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from tests.interop.parity.comparison import OWN_WORDS, Difference, ProxyPair, Row, ask
from tests.interop.parity.conftest import proxy_pair

BOOTSTRAP = Template(Path(__file__).with_name("filters_bootstrap.yaml").read_text())


@pytest.fixture(scope="module")
def filtering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyPair]:
    with proxy_pair(tmp_path_factory.mktemp("filters"), BOOTSTRAP, ("edge",)) as pair:
        yield pair


def get(
    target: str,
    *fields: str,
    host: str = "mutations.test",
    expect: str = "200 ok | open",
    differs: Difference | None = None,
) -> Row:
    return Row(
        request=ask(f"GET {target}", *fields, host=host), expect=expect, listener="edge", differs=differs
    )


UNFILTERED = Difference(
    "a response passes the filters that its request has passed; Envoy's replies pass all filters",
    frozenset(("x-by", "x-set", "x-later")),
)


def health(
    target: str = "/healthz", *fields: str, expect: str = "200 | open", differs: Difference | None = None
) -> Row:
    return get(target, *fields, host="health.test", expect=expect, differs=differs)


def checked(check: str, *fields: str, expect: str = "503 | open") -> Row:
    return health("/", f"x-check: {check}", *fields, expect=expect)


MUTATIONS = {
    "of the filter alone": get("/", host="forwarding.test"),
    "one after the other": get(
        "/", "x-secret: 1", "X-Secret: 2", "x-by: client", "x-set: 1", host="forwarding.test"
    ),
    "if absent, or present": get("/", "x-absent: 1", "x-present: 1", "x-present: 2", host="forwarding.test"),
    "of the virtual host": get("/virtual-host"),
    "of the route": get("/route"),
    "of the route, the most specific wins": get("/route-specific"),
    "of the weighted cluster": get("/weighted"),
    "in a FilterConfig": get("/in-filter-config"),
    "of a reply without a route": get("/nowhere", expect="404 | open"),
    "of a reply without a cluster": get("/missing", expect="503 | open", differs=OWN_WORDS),
    "of a reply without a host": get("/nobody", expect="503 no healthy upstream | open"),
    "of a direct response": get("/direct", expect="418 short | open"),
    "of a redirect": get("/redirect", expect="301 | open"),
    "of a failure": get("/virtual-host", "answer: 500", expect="500"),
}
SWITCHES = {
    "disabled for the route": get("/disabled"),
    "enabled for the route": get("/enabled"),
    "enabled by a configuration": get("/enabled-by-configuration"),
    "by the virtual host": get("/", host="disabled.test"),
    "by the virtual host, but not for the route": get("/enabled-again", host="disabled.test"),
}
HEALTH_CHECKS = {
    "answered": health(),
    "answered after its body": Row(
        request=ask("POST /healthz", host="health.test", body="any"), expect="200 | open", listener="edge"
    ),
    "without a route": get("/healthz", host="nowhere.test", expect="200 | open"),
    "whose route answers by itself": health("/healthz", "x-direct: 1"),
    "of another path": health("/healthz/", expect="200 ok | open"),
    "disabled for the route": health("/healthz", "x-other: 1", expect="200 ok | open"),
    "of clusters": health("/healthz/clusters", "x-check: half"),
    "of clusters, not all headers": health("/healthz/clusters", expect="200 ok | open"),
    "of a cluster with too few hosts": checked("too few"),
    "of a cluster without hosts": checked("nobody"),
    "of a cluster without hosts, as is wanted": checked("nobody wanted", expect="200 | open"),
    "of a missing cluster": checked("missing"),
    "passed to the upstream": checked("passes", expect="200 ok | open"),
    "passed to the upstream, which fails": checked("passes", "answer: 503", expect="503"),
    "cached: first": checked("cached", expect="200 ok | open"),
    "cached: second": checked("cached", "answer: 500", expect="200 | open"),
    "failure cached: first": checked("failure cached", "answer: 503", expect="503"),
    "failure cached: second": checked("failure cached", expect="503 | open"),
    "of a refused upgrade": health(
        "/healthz", "connection: upgrade", "upgrade: websocket", expect="403", differs=UNFILTERED
    ),
    "answered before another filter": get("/healthz", host="later.test", expect="200", differs=UNFILTERED),
}


@pytest.mark.parametrize("row", MUTATIONS.values(), ids=list(MUTATIONS))
def test_header_mutations(filtering: ProxyPair, row: Row) -> None:
    filtering.check(row)


@pytest.mark.parametrize("row", SWITCHES.values(), ids=list(SWITCHES))
def test_filters_are_enabled_and_disabled(filtering: ProxyPair, row: Row) -> None:
    filtering.check(row)


@pytest.mark.parametrize("row", HEALTH_CHECKS.values(), ids=list(HEALTH_CHECKS))
def test_health_checks(filtering: ProxyPair, row: Row) -> None:
    filtering.check(row)
