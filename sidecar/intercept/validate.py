"""Checks that a network plug-in has set the rules, before the proxy and the application start.

The check listens on a port of the proxy, calls a port of another address, and expects the call with its
original destination. The proxy's user, whose calls to other pods are not captured, calls an address of its
own pod: this call leads to the inbound port. Any other user calls an address outside of the pod: this call
leads to the outbound port. Nothing is sent.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.intercept.errors import NotInterceptedError
from sidecar.intercept.rules import IPV4, IPV6, Family
from sidecar.intercept.settings import Interception

TIMEOUT_S: Final = 5.0
PROBE_PORT: Final = 15002
_ORIGINAL_DST: Final = 80  # SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
_OUTSIDE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}  # RFC 5737, RFC 3849: documentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A call to ``target``, which the rules send to ``port``."""

    family: Family
    target: str
    port: int


def validate(settings: Interception, families: Iterable[Family]) -> list[str]:
    """Returns the successful checks in words. Raises `NotInterceptedError`."""
    is_proxy = os.geteuid() in settings.proxy_uids or os.getegid() in settings.proxy_gids
    return [_check(probe) for probe in probes(settings, families, is_proxy=is_proxy, own_ipv6=_own_ipv6())]


def probes(
    settings: Interception, families: Iterable[Family], *, is_proxy: bool, own_ipv6: str
) -> list[Probe]:
    """``own_ipv6`` is an address of the pod other than ``::1``; empty if there is none: then nobody can reach
    it by IPv6."""
    found = []
    for family in families:
        if family is IPV6 and not own_ipv6:
            continue
        own = "127.0.0.6" if family is IPV4 else own_ipv6
        found.append(
            Probe(
                family=family,
                target=own if is_proxy else _OUTSIDE[family.version],
                port=settings.inbound_port if is_proxy else settings.outbound_port,
            )
        )
    return found


def _check(probe: Probe) -> str:
    kind = socket.AF_INET if probe.family is IPV4 else socket.AF_INET6
    call = f"a call to {probe.target} port {PROBE_PORT}"
    with (
        socket.socket(kind, socket.SOCK_STREAM) as listener,
        socket.socket(kind, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((probe.family.unspecified, probe.port))
            listener.listen()
        except OSError as error:
            raise NotInterceptedError(f"cannot listen on port {probe.port}: {error.strerror}") from error
        client.setblocking(False)
        _begin(client, probe, call)
        original = _accept(listener, client, call)
    if original != (probe.target, PROBE_PORT):
        raise NotInterceptedError(f"{call} arrived with the original destination {original}")
    return f"IPv{probe.family.version}: {call} arrived at port {probe.port}"


def _begin(client: socket.socket, probe: Probe, call: str) -> None:
    try:
        client.connect((probe.target, PROBE_PORT))
    except BlockingIOError:
        pass
    except OSError as error:
        raise NotInterceptedError(f"{call} was not redirected: {error.strerror}") from error


def _accept(listener: socket.socket, client: socket.socket, call: str) -> tuple[str, int]:
    """The original destination of the accepted call."""
    end_s = time.monotonic() + TIMEOUT_S
    while (left_s := end_s - time.monotonic()) > 0:
        arrived, connected, _ = select.select([listener], [client], [], left_s)
        if arrived:
            connection, _ = listener.accept()
            with connection:
                return _original_destination(connection)
        if connected and (failure := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise NotInterceptedError(f"{call} was not redirected: {os.strerror(failure)}")
        if connected:
            raise NotInterceptedError(f"{call} was not redirected: another program answered it")
    raise NotInterceptedError(f"{call} was not redirected: it did not arrive within {TIMEOUT_S:g} s")


def _original_destination(connection: socket.socket) -> tuple[str, int]:
    try:
        if connection.family == socket.AF_INET:
            raw = connection.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DST, 16)
            port, address = struct.unpack("!2xH4s8x", raw)
        else:
            raw = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, 28)
            port, address = struct.unpack("!2xH4x16s4x", raw)
    except OSError as error:
        raise NotInterceptedError(f"the call has no original destination: {error.strerror}") from error
    return socket.inet_ntop(connection.family, address), port


def _own_ipv6() -> str:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            lines = [line.split() for line in table]
    except OSError:
        return ""
    for digits, _, _, scope, _, interface in lines:
        if interface != "lo" and scope == "00":  # global
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    return ""
