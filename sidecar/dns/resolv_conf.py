"""``resolv.conf(5)``: the resolvers and the search path of the pod."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LOG = logging.getLogger(__name__)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
DNS_PORT: Final = 53
_MOST_SERVERS: Final = 3  # MAXNS of the C library
_MAX_FILE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upstream:
    """A resolver: the family and the address for a socket."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ResolvConf:
    servers: tuple[Upstream, ...] = ()
    search: tuple[str, ...] = ()


def read_resolv_conf(path: Path = RESOLV_CONF) -> ResolvConf:
    """Empty if the file cannot be read."""
    try:
        with path.open(errors="replace") as file:
            return parse_resolv_conf(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        _LOG.warning("%s: cannot be read: %s", path, error.strerror or error)
        return ResolvConf()


def parse_resolv_conf(text: str) -> ResolvConf:
    """As in the C library, the last ``search`` or ``domain`` counts, and invalid lines are ignored."""
    servers: list[tuple[str, int]] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split("#")[0].split(";")[0].split():
            case ["nameserver", address, *_]:
                servers.append((address, DNS_PORT))
            case ["search" | "domain", *domains]:
                search = tuple(domains)
    return ResolvConf(upstreams(servers)[:_MOST_SERVERS], search)


def upstreams(servers: Iterable[tuple[str, int]]) -> tuple[Upstream, ...]:
    """IPv6 addresses may have a zone. Anything else than an address is left out."""
    found: list[Upstream] = []
    for host, port in servers:
        try:
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            ((family, _, _, _, address), *_) = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=flags
            )
        except (OSError, ValueError):
            _LOG.warning("the DNS resolver %.80r is not an IP address, and is not used", host)
            continue
        found.append(Upstream(family, address))
    return tuple(found)
