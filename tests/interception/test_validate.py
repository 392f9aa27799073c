"""``--validate``: whether rules that another program has set are in force."""

from __future__ import annotations

import pytest

from tests.support.intercepted_pod import InterceptedPod
from tests.support.network_namespaces import APPLICATION, PROXY, Owner


def validate(pod: InterceptedPod, owner: Owner, *flags: str) -> int:
    with pod.pod.entered(owner):
        return pod.main("--validate", *flags)


@pytest.mark.parametrize("owner", [PROXY, APPLICATION], ids=["proxy", "application"])
@pytest.mark.parametrize("mode", ["REDIRECT", "TPROXY"])
def test_rules_in_force_are_found(
    pod: InterceptedPod, owner: Owner, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod.run("--mode", mode) == 0
    capsys.readouterr()
    assert validate(pod, owner) == 0
    port = 15006 if owner is PROXY else 15001
    assert capsys.readouterr().out.count(f"port 15002 arrived at port {port}\n") == 2


def test_missing_rules_end_with_126(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(pod, PROXY) == 126
    expected = "intercept: a call to 127.0.0.6 port 15002 was not redirected: Connection refused\n"
    assert capsys.readouterr().err == expected


def test_missing_rules_of_ipv6_are_noticed(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.run("--ipv6", "off") == 0
    assert validate(pod, PROXY) == 126
    assert "a call to fd77::2 port 15002 was not redirected" in capsys.readouterr().err
    assert validate(pod, PROXY, "--ipv6", "off") == 0


def test_rules_for_another_user_are_noticed(pod: InterceptedPod, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.run("--proxy-uid", "1338", "--proxy-gid", "1338") == 0
    assert validate(pod, PROXY) == 126
    assert "was not redirected" in capsys.readouterr().err


def test_a_program_on_the_proxy_s_port_is_named(
    pod: InterceptedPod, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.intercept()
    assert validate(pod, PROXY) == 126
    assert "intercept: cannot listen on port 15006: Address already in use\n" in capsys.readouterr().err
