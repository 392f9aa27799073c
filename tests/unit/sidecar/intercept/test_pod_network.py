from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.intercept.errors import InterceptError
from sidecar.intercept.pod_network import has_ipv6, preparation, resolvers
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


_OF_LO = "00000000000000000000000000000001 01 80 10 80       lo\n"
_OF_ETH0 = "fe800000000000000000000000000001 02 40 20 80     eth0\n"


@pytest.mark.parametrize(
    ("addresses", "disabled", "expected"),
    [
        (None, None, False),
        ("", "1\n", False),
        (_OF_LO, "1\n", False),
        (_OF_LO + _OF_ETH0, "0\n", True),
        ("", "0\n", True),  # an address may come
        (_OF_ETH0, "1\n", True),  # enabled for one interface
        (_OF_LO, None, True),  # not known: fails closed
    ],
)
def test_ipv6_is_intercepted_where_packets_can_arrive(
    addresses: str | None, disabled: str | None, expected: bool, tmp_path: Path
) -> None:
    for name, text in (("if_inet6", addresses), ("disable_ipv6", disabled)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert has_ipv6(tmp_path / "if_inet6", tmp_path / "disable_ipv6") is expected


def test_ipv6_needs_the_source_address_and_tproxy_the_policy_route() -> None:
    assert preparation(Interception(), IPV4) == []
    assert preparation(Interception(), IPV6) == ["-6 address replace ::6/128 dev lo"]
    assert preparation(Interception(mode=Mode.TPROXY), IPV4) == [
        "-4 rule add fwmark 1337 lookup 133",
        "-4 route replace local default dev lo table 133",
    ]
