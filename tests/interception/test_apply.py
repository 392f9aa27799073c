"""Rules that are present already, and the two variants of iptables."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.intercepted_pod import INBOUND, InterceptedPod
from tests.support.network_namespaces import APPLICATION, V4, NetworkNamespace

FOREIGN = "*nat\n:KUBE - [0:0]\n-A PREROUTING -i eth7 -j KUBE\n-A OUTPUT -o eth7 -j RETURN\nCOMMIT\n"
FAILING_RESTORE = """#!/bin/sh
text=$(cat)
case "$text" in *REDIRECT*) echo not today >&2; exit 1;; esac
echo "$text" | {real} "$@"
"""
PROGRAM = (sys.executable, "-m", "sidecar.intercept")
FLAGS = (
    *("--capture-dns", "--capture-all-dns", "--mode=TPROXY", "--drop-invalid", "--exclude-interfaces=eth9"),
    *("--inbound-ports=1,2", "--outbound-ranges=10.0.0.0/8,fd00::/8,0.0.0.0/0,::/0", "--outbound-ports=3"),
    *("--exclude-outbound-ranges=10.1.0.0/16,fd01::/16", "--exclude-outbound-ports=4", "--proxy-uid=5,6"),
    *("--reroute-virtual-interfaces=tap+", "--owner-groups-include=root,7"),
)


def restore(pod: InterceptedPod, text: str) -> None:
    for program in ("iptables", "ip6tables"):
        pod.pod.run(f"{program}-{pod.variant}-restore", "--noflush", text=text)


def test_equal_rules_are_left_alone(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.run(*FLAGS) == 0
    before = [pod.rules(table) for table in ("raw", "mangle", "nat", "filter")]
    capsys.readouterr()
    assert pod.run(*FLAGS) == 0
    assert capsys.readouterr().out.count("rules already in force") == 2
    assert [pod.rules(table) for table in ("raw", "mangle", "nat", "filter")] == before


@pytest.mark.parametrize(
    "damage",
    [
        "*nat\n-D OUTPUT -j OUTRIGGER_OUTPUT\nCOMMIT\n",
        "*nat\n-F OUTRIGGER_OUTPUT\nCOMMIT\n",
        "*nat\n-I OUTRIGGER_INBOUND -j RETURN\nCOMMIT\n",
        "*nat\n-A OUTPUT -j OUTRIGGER_OUTPUT\nCOMMIT\n",
        "*mangle\n:OUTRIGGER_OLD - [0:0]\n-A PREROUTING -j OUTRIGGER_OLD\nCOMMIT\n",
        # A run that was killed while it replaced rules.
        "*filter\n:OUTRIGGER_GUARD - [0:0]\n-A INPUT -j OUTRIGGER_GUARD\nCOMMIT\n",
    ],
    ids=[
        "jump removed",
        "chain emptied",
        "rule added",
        "jump twice",
        "chain of another version",
        "guardrails",
    ],
)
def test_partial_and_other_rules_are_replaced(
    pod: InterceptedPod, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.intercept()
    expected = [pod.rules(table) for table in ("raw", "mangle", "nat", "filter")]
    restore(pod, damage)
    assert pod.run() == 0
    assert "all traffic is dropped until they are replaced" in capsys.readouterr().out
    assert [pod.rules(table) for table in ("raw", "mangle", "nat", "filter")] == expected
    assert pod.call_from_outside().at == INBOUND


def test_rules_of_other_programs_stay(pod: InterceptedPod) -> None:
    restore(pod, FOREIGN)
    foreign = pod.rules("nat")
    assert pod.run() == 0
    assert pod.run("--inbound-ports", "80") == 0
    assert set(foreign) <= set(pod.rules("nat"))
    assert pod.run("--clean") == 0
    assert pod.rules("nat") == foreign
    restore(pod, "*nat\n-F\n-X\nCOMMIT\n")


def test_the_variant_that_has_rules_is_chosen(
    pod: InterceptedPod, capsys: pytest.CaptureFixture[str]
) -> None:
    restore(pod, FOREIGN)
    assert pod.run("--iptables", "auto") == 0
    assert capsys.readouterr().out.count(f"tables-{pod.variant})") == 2
    restore(pod, "*nat\n-F\n-X\nCOMMIT\n")


def test_own_rules_of_the_other_variant_are_removed(
    namespaces: tuple[NetworkNamespace, NetworkNamespace],
) -> None:
    with InterceptedPod(*namespaces, V4, "nft") as pod, InterceptedPod(*namespaces, V4, "legacy") as legacy:
        assert legacy.run() == 0
        assert pod.run() == 0
        assert pod.run("--iptables", "auto", "--inbound-ports", "80") == 0
        assert [bool(found.rules("nat")) for found in (pod, legacy)] == [True, False]


def test_nothing_passes_while_rules_are_incomplete(
    pod: InterceptedPod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pod.intercept("--inbound-ports", "80")
    pod.listen("application", pod.pod)
    assert pod.call_from_outside().at == "application"
    for program in ("iptables", "ip6tables"):
        name = f"{program}-{pod.variant}-restore"
        failing = tmp_path / name
        failing.write_text(FAILING_RESTORE.format(real=shutil.which(name)))
        failing.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert pod.run("--inbound-ports", "81") == 1
    assert "-restore --noflush --wait 10 failed: not today" in capsys.readouterr().err
    with pod.pod.socket(pod.side, socket.SOCK_DGRAM, APPLICATION) as client, pytest.raises(PermissionError):
        client.sendto(b"", (pod.side.outside, 9))
    assert pod.run("--inbound-ports", "81") == 0
    assert pod.call_from_outside(81).at == INBOUND
    assert pod.call_from_outside().at == "application"


def test_cleaning_leaves_nothing(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    before = network_state(pod)
    assert pod.run(*FLAGS) == 0
    assert network_state(pod) != before
    assert pod.run("--clean") == 0
    assert network_state(pod) == before
    assert pod.run("--clean") == 0
    assert "0 rules removed" in capsys.readouterr().out


def network_state(pod: InterceptedPod) -> list[str]:
    commands = (
        "ip -4 rule",
        "ip -6 rule",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip address",
    )
    state = [line for command in commands for line in pod.pod.run(*command.split()).splitlines()]
    return state + [rule for table in ("raw", "mangle", "nat", "filter") for rule in pod.rules(table)]


def test_a_dry_run_prints_what_is_applied(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.run("--dry-run", *FLAGS) == 0
    printed = capsys.readouterr().out
    assert pod.rules("nat") == []
    script = printed.replace("tables-restore", f"tables-{pod.variant}-restore").replace("--noflush", "--test")
    pod.pod.run("sh", "-ec", script.replace("address replace", "-V address"))
    assert pod.run(*FLAGS) == 0
    for line in pod.rules("nat"):
        assert line.removesuffix(" ") in printed or line.startswith(":")


def test_ipv6_is_skipped_where_the_kernel_has_none(
    namespaces: tuple[NetworkNamespace, NetworkNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    with NetworkNamespace() as namespace:
        namespace.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        with InterceptedPod(namespace, namespace, V4, "nft") as pod:
            assert pod.run() == 0
            assert "IPv6" not in capsys.readouterr().out
            assert pod.run("--ipv6", "on") == 1
            assert "--ipv6 on: the kernel has no IPv6 here" in capsys.readouterr().err


def test_a_missing_capability_is_named(namespaces: tuple[NetworkNamespace, NetworkNamespace]) -> None:
    with namespaces[0].entered():
        done = subprocess.run(
            ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", *PROGRAM],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("intercept: missing capability NET_ADMIN (uid 0): ")


def test_missing_programs_are_named(
    pod: InterceptedPod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        assert pod.run() == 1
    error = capsys.readouterr().err
    assert f"iptables-{pod.variant}-save is not installed: the image needs iptables" in error


def test_a_read_only_file_system_is_enough(namespaces: tuple[NetworkNamespace, NetworkNamespace]) -> None:
    script = 'mount -o bind,ro /run /run 2>/dev/null || mount -t tmpfs -o ro none /run; exec "$@"'
    namespace = namespaces[0]
    for variant in ("nft", "legacy"):
        command = ("unshare", "--mount", "sh", "-ec", script, "sh", *PROGRAM, "--iptables", variant)
        assert f"tables-{variant})" in namespace.run(*command)
        namespace.run(*command, "--clean")


def test_the_program_imports_little() -> None:
    modules = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    for heavy in (
        "asyncio",
        "ssl",
        "google",
        "envoy",
        "grpc",
        "uvloop",
        "pydantic",
        "logging",
        "typing_extensions",
    ):
        assert f"| {heavy}\n" not in modules.replace(" ", "").replace("|", "| ")
