"""The names of a host in TLS that come from a request: ``auto_sni`` and ``auto_san_validation``."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from sidecar.authority import split_port
from sidecar.config.tls import AutoNames, ServerNames
from sidecar.http.headers import get_header
from sidecar.http.message import Request


def server_names(auto: AutoNames, request: Request) -> ServerNames:
    """The names for `request`, whose authority has been rewritten."""
    named = get_header(request.headers, auto.header) if auto.header else None
    return _names(auto, named or request.authority)


@lru_cache(maxsize=1024)
def _names(auto: AutoNames, authority: bytes) -> ServerNames:
    """Envoy: an IP address is no SNI (RFC 6066 3), and the configured one remains."""
    host = split_port(authority)[0].decode("latin-1").removeprefix("[").removesuffix("]").lower()
    return ServerNames(
        sni=host if auto.sni and not _is_ip_address(host) else None, san=host if auto.san else None
    )


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
