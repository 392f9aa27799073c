from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.intercept.errors import InterceptError
from sidecar.intercept.pod_network import preparation, resolvers
from sidecar.intercept.rules import IPV4, IPV6
from sidecar.intercept.settings import Interception, Mode


def test_resolvers_are_the_nameservers_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search a.svc\nnameserver 10.96.0.10\nnameserver  fe80::1%eth0\nnameserver 10.96.0.10\n")
    assert resolvers(path) == (ip_address("10.96.0.10"), ip_address("fe80::1"))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterceptError, match=r"resolv\.conf: No such file or directory"):
        resolvers(tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text("nameserver dns.example\n")
    with pytest.raises(InterceptError, match=r"resolv\.conf: nameserver 'dns\.example' does not appear"):
        resolvers(tmp_path / "resolv.conf")


def test_ipv6_needs_the_source_address_and_tproxy_the_policy_route() -> None:
    assert preparation(Interception(), IPV4) == []
    assert preparation(Interception(), IPV6) == ["-6 address replace ::6/128 dev lo"]
    assert preparation(Interception(mode=Mode.TPROXY), IPV4) == [
        "-4 rule add fwmark 1337 lookup 133",
        "-4 route replace local default dev lo table 133",
    ]
