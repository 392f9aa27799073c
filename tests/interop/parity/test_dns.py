"""Clusters whose hosts are found by DNS, compared with the real Envoy: both ask the same name server."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template

import dns.rcode
import pytest

from tests.interop.parity.conftest import proxy_command
from tests.support.address_server import address_server
from tests.support.dns_server import NameServer, name_server
from tests.support.processes import Child, accepts, child, free_port

BOOTSTRAP = Template(Path(__file__).with_name("dns_bootstrap.yaml").read_text())
DEADLINE_S = 10.0
A, B = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True, slots=True)
class Proxy:
    process: Child
    port: int
    admin: int

    def ask(self, path: str) -> str:
        """The address of the host that answered, or the status of a failure."""
        return get(self.port, path)

    def stat(self, name: str) -> int:
        text = get(self.admin, f"/stats?filter=^{name}$")
        return int(text.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class Pair:
    names: NameServer
    envoy: Proxy
    sidecar: Proxy

    def come_to_say(self, path: str, expected: str) -> None:
        for proxy in (self.envoy, self.sidecar):
            eventually(lambda proxy=proxy: proxy.ask(path), expected)  # type: ignore[misc]

    def go_on_saying(self, path: str, expected: str, name: str) -> None:
        """While a name is asked for several times more, by each."""
        for proxy in (self.envoy, self.sidecar):
            before = proxy.stat(f"cluster.{path[1:]}.update_attempt")
            while proxy.stat(f"cluster.{path[1:]}.update_attempt") < before + 4:
                assert proxy.ask(path) == expected


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    return body if answer.status == 200 else str(answer.status)


def eventually(look: Callable[[], object], expected: object) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while (seen := look()) != expected:
        assert time.monotonic() < end_s, f"{seen!r} is not {expected!r}"
        time.sleep(0.01)


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[int]:
    with address_server(A, B) as port:
        yield port


@pytest.fixture
def start(names: NameServer, upstream: int, tmp_path: Path) -> Iterator[Callable[[], Pair]]:
    """Starts both, and waits for neither."""
    with ExitStack() as stack:

        def start_one(name: str) -> Proxy:
            ports = {"plain": free_port(), "admin": free_port()}
            file = tmp_path / f"{name}.yaml"
            file.write_text(BOOTSTRAP.substitute(ports, dns=names.port, upstream=upstream))
            process = stack.enter_context(child(proxy_command(name, file), tmp_path / f"{name}.log"))
            return Proxy(process, ports["plain"], ports["admin"])

        yield lambda: Pair(names, start_one("envoy"), start_one("sidecar"))


@pytest.fixture
def pair(start: Callable[[], Pair], names: NameServer) -> Pair:
    for name in ("good", "strict", "logical", "backing-off"):
        names.say(f"{name}.test", A, ttl_s=0)
    names.keep_silent("dead.test")
    pair = start()
    for proxy in (pair.envoy, pair.sidecar):
        proxy.process.wait_for_port(proxy.port)
    return pair


def test_a_silent_name_holds_up_no_other(pair: Pair) -> None:
    pair.come_to_say("/mixed", A)
    pair.names.say("good.test", B)
    pair.come_to_say("/mixed", B)


@pytest.mark.parametrize("path", ["/strict", "/logical"])
def test_an_address_that_changes_is_followed(pair: Pair, path: str) -> None:
    pair.come_to_say(path, A)
    pair.names.say(f"{path[1:]}.test", B)
    pair.come_to_say(path, B)


@pytest.mark.parametrize("gone", ["does not exist", "has no address"])
def test_a_name_without_addresses_has_no_hosts_in_strict_dns_alone(pair: Pair, gone: str) -> None:
    for name in ("strict", "logical"):
        pair.come_to_say(f"/{name}", A)
        if gone == "does not exist":
            pair.names.forget(f"{name}.test")
        else:
            pair.names.say(f"{name}.test")
    pair.come_to_say("/strict", "503")
    pair.go_on_saying("/logical", A, "logical.test")
    for name in ("strict", "logical"):
        pair.names.say(f"{name}.test", B)
        pair.come_to_say(f"/{name}", B)


@pytest.mark.parametrize("name", ["strict", "logical"])
def test_a_server_that_fails_takes_no_hosts_away(pair: Pair, name: str) -> None:
    pair.come_to_say(f"/{name}", A)
    pair.names.say(f"{name}.test", rcode=dns.rcode.SERVFAIL)
    pair.go_on_saying(f"/{name}", A, f"{name}.test")


def test_failures_are_tried_again_by_their_own_rate(start: Callable[[], Pair], names: NameServer) -> None:
    names.say("backing-off.test", rcode=dns.rcode.SERVFAIL)
    for name in ("good", "strict", "logical"):
        names.say(f"{name}.test", A)
    names.keep_silent("dead.test")
    pair = start()
    for proxy in (pair.envoy, pair.sidecar):
        proxy.process.wait_for_port(proxy.port)
        assert proxy.ask("/backing-off") == "503"
        proxy.process.wait_for(
            lambda proxy=proxy: proxy.stat("cluster.backing-off.update_failure") >= 3,  # type: ignore[misc]
            "the name was asked for again",
        )
    names.say("backing-off.test", A)
    pair.come_to_say("/backing-off", A)  # whose refresh rate is ten minutes


def test_nothing_is_served_before_names_are_resolved(start: Callable[[], Pair], names: NameServer) -> None:
    for name in ("good", "logical", "backing-off"):
        names.say(f"{name}.test", A)
    for name in ("dead", "strict"):
        names.keep_silent(f"{name}.test")
    pair = start()
    for proxy in (pair.envoy, pair.sidecar):
        proxy.process.wait_for_port(proxy.admin)
        proxy.process.wait_for(
            lambda proxy=proxy: proxy.stat("cluster.logical.update_success") >= 1,  # type: ignore[misc]
            "the other names are resolved",
        )
        assert get(proxy.admin, "/ready") == "503"
    assert not accepts(pair.sidecar.port)
    assert pair.sidecar.stat("cluster_manager.warming_clusters") >= 1
    names.say("strict.test", A)
    for proxy in (pair.envoy, pair.sidecar):
        proxy.process.wait_for_port(proxy.port)
        assert proxy.ask("/strict") == A
        eventually(lambda proxy=proxy: get(proxy.admin, "/ready"), "LIVE\n")  # type: ignore[misc]
