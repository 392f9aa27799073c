from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from sidecar.config.dns import DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.dns.capture import upstreams_for
from sidecar.dns.resolv_conf import ResolvConf, parse_resolv_conf, read_resolv_conf, upstreams

OF_A_POD = """
# made by the kubelet
search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
nameserver fd00::a   ; the second
options ndots:5 timeout:1
"""


def texts(conf: ResolvConf) -> list[str]:
    return [str(each) for each in conf.servers]


def test_the_file_of_a_pod() -> None:
    found = parse_resolv_conf(OF_A_POD)
    assert texts(found) == ["10.96.0.10:53", "[fd00::a]:53"]
    assert [each.family for each in found.servers] == [socket.AF_INET, socket.AF_INET6]
    assert found.search == ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")


def test_the_rules_of_the_c_library() -> None:
    text = "\n".join(
        ["search a b", "domain c", *(f"nameserver 10.0.0.{n}" for n in range(5)), "nonsense", "search"]
    )
    assert texts(parse_resolv_conf(text)) == ["10.0.0.0:53", "10.0.0.1:53", "10.0.0.2:53"]
    assert parse_resolv_conf("search a b\ndomain c").search == ("c",)


def test_a_server_that_is_no_address_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert texts(parse_resolv_conf("nameserver dns.example.com\nnameserver 10.0.0.1")) == ["10.0.0.1:53"]
    assert "'dns.example.com' is not an IP address" in caplog.text


def test_a_missing_file_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_resolv_conf(tmp_path / "resolv.conf") == ResolvConf()
    assert "cannot be read" in caplog.text


def test_a_file_of_any_bytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_bytes(b"\xff\x00nameserver\nnameserver \xff\nnameserver 10.0.0.1\n")
    assert texts(read_resolv_conf(tmp_path / "resolv.conf")) == ["10.0.0.1:53"]


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (DnsResolver(), ["10.96.0.10:53", "[fd00::a]:53"]),
        (DnsResolver(servers=(SocketAddress("10.1.1.1", 5353),)), ["10.1.1.1:5353"]),
        (
            DnsResolver(servers=(SocketAddress("10.1.1.1", 53),), servers_are_fallback=True),
            ["10.96.0.10:53", "[fd00::a]:53"],
        ),
        (DnsResolver(servers=(SocketAddress("127.0.0.1", 15053),)), []),
    ],
    ids=["of the pod", "of the bootstrap file", "fallback", "the sidecar itself"],
)
def test_the_resolvers_are_those_that_the_sidecar_itself_uses(
    configured: DnsResolver, expected: list[str]
) -> None:
    found = upstreams_for(configured, parse_resolv_conf(OF_A_POD), 15053)
    assert [str(each) for each in found] == expected


def test_without_any_a_resolver_on_loopback_is_used_as_by_the_c_library() -> None:
    assert upstreams_for(DnsResolver(), ResolvConf(), 15053) == upstreams([("127.0.0.1", 53)])
