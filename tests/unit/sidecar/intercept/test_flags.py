from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.intercept.flags import parse
from sidecar.intercept.settings import EVERYTHING, Interception, IPv6, Mode, Variant


def test_the_defaults_capture_everything_but_the_sidecar_s_own_ports() -> None:
    command = parse([])
    assert (command.action, command.ipv6, command.variant) == ("apply", IPv6.AUTO, Variant.AUTO)
    assert command.settings == Interception()
    assert command.settings.excluded_inbound_ports == (15020, 15021, 15090)


def test_everything_and_nothing_differ() -> None:
    assert parse(["--inbound-ports", "*"]).settings.inbound_ports == EVERYTHING
    assert parse(["--inbound-ports", ""]).settings.inbound_ports == ()
    assert parse(["--outbound-ranges", ""]).settings.outbound_ranges == ()
    assert parse(["--owner-groups-include", ""]).settings.owner_groups == ()


def test_lists_are_separated_by_commas() -> None:
    settings = parse(
        ["--inbound-ports", "80, 8080,80", "--outbound-ranges", "10.0.0.1/8,fd00::/8,192.0.2.1"]
    ).settings
    assert settings.inbound_ports == (80, 8080)
    assert settings.outbound_ranges == tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32")))
    assert parse(["--mode=TPROXY"]).settings.mode is Mode.TPROXY
    assert parse(["--owner-groups-exclude", "root,101"]).settings.excluded_owner_groups == (0, 101)


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--mode", "NONE", "'NONE' is not one of REDIRECT, TPROXY"),
        ("--inbound-ports", "80,http", "'http' is not a port (1 to 65535)"),
        ("--inbound-port", "0", "'0' is not a port (1 to 65535)"),
        ("--exclude-inbound-ports", "65536", "'65536' is not a port (1 to 65535)"),
        ("--exclude-inbound-ports", "*", "'*' is not a port (1 to 65535)"),
        ("--outbound-ports", "²", "'²' is not a port (1 to 65535)"),
        ("--outbound-ranges", "10.0.0.0/33", "'10.0.0.0/33' is not a CIDR range, such as 10.0.0.0/8"),
        ("--exclude-outbound-ranges", "*", "'*' is not a CIDR range, such as 10.0.0.0/8"),
        ("--proxy-uid", "proxy", "'proxy' is not a number of a user or group"),
        ("--proxy-gid", "-1", "'-1' is not a number of a user or group"),
        ("--owner-groups-include", "no-such", "'no-such' is not a group of this image; use its number"),
        ("--exclude-interfaces", "eth0 -j ACCEPT", "'eth0 -j ACCEPT' is not the name of an interface"),
        ("--exclude-interfaces", "e\n", None),
        ("--reroute-virtual-interfaces", "an-interface-too-long", "is not the name of an interface"),
        ("--ipv6", "yes", "'yes' is not one of auto, on, off"),
        ("--iptables", "ebpf", "'ebpf' is not one of auto, nft, legacy"),
    ],
)
def test_an_invalid_value_is_refused_with_the_flag_s_name(
    flag: str, value: str, reason: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason is None:
        assert parse([flag, value]).settings.excluded_interfaces == (value.strip(),)
        return
    with pytest.raises(SystemExit) as exit_:
        parse([f"{flag}={value}"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {flag}: " in error
    assert reason in error


def test_actions_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert [parse([flag]).action for flag in ("--dry-run", "--clean", "--validate")] == [
        "dry-run",
        "clean",
        "validate",
    ]
    with pytest.raises(SystemExit):
        parse(["--clean", "--validate"])
    assert "not allowed with argument" in capsys.readouterr().err
