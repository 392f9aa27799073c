"""Which redirects a probe follows: those of the kubelet. Pure.

https://github.com/kubernetes/kubernetes/blob/v1.33.0/pkg/probe/http/http.go, `RedirectChecker`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from sidecar.application.flags import request_target
from sidecar.config.endpoint import SocketAddress

MAX_REQUESTS: Final = 10
_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"http": 80, "https": 443}


class ProbeError(Exception):
    """The probe has failed without a response of the application. The message is the reason."""


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """The URL of one request of a probe. ``authority`` is the value of its Host header."""

    address: SocketAddress
    path: str
    https: bool
    authority: bytes

    @property
    def url(self) -> str:
        return f"{'https' if self.https else 'http'}://{self.address}{self.path}"


def is_redirect(status: int) -> bool:
    return 300 <= status < 400


def next_target(target: HttpTarget, status: int, location: bytes | None) -> HttpTarget | None:
    """Where the redirect leads; None if the probe ends with it: it has no location, or leads to another host,
    which is no matter of this application's health. Raises `ProbeError` for an invalid location."""
    if status not in _FOLLOWED or not location:
        return None
    text = location.decode("latin-1")
    try:
        url = urlsplit(urljoin(target.url, text))
        host, port = url.hostname or "", url.port
        is_absolute = bool(urlsplit(text).netloc)
    except ValueError as error:
        raise ProbeError(f"the application redirects to an invalid location {text!r:.200}: {error}") from None
    if host.lower() != target.address.host.lower():
        return None
    if url.scheme not in _PORTS:
        raise ProbeError(f"the application redirects to {text!r:.200}, which is not HTTP")
    address = SocketAddress(target.address.host, port or _PORTS[url.scheme])
    path = url.path + (f"?{url.query}" if url.query else "")
    return replace(
        target,
        address=address,
        path=request_target(path),
        https=url.scheme == "https",
        authority=str(address).encode() if is_absolute else target.authority,
    )
