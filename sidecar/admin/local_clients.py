"""Keeps web pages away from the admin interface, which knows no passwords.

It listens on loopback alone; but a browser on the same machine does, for any page, send a POST to
``http://127.0.0.1:15000/quitquitquit`` (cross-site request forgery), and a page whose own name is made to
resolve to 127.0.0.1 even reads the answers (DNS rebinding). Envoy leaves that to its users.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from sidecar.admin.answers import text
from sidecar.http.headers import get_header
from sidecar.http.message import Request, Response, Service


class LocalClients:
    """A filter: passes on what was asked of an IP address or of ``localhost``, and by no page of another
    origin."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        authority = request.authority.decode("latin-1")
        if authority and not _is_local(authority):
            return text(f"host {authority} is refused: ask for localhost, or for an IP address\n", 403)
        origin = get_header(request.headers, b"origin")
        if origin is not None and origin != b"http://" + request.authority:
            return text("a web page of another origin has nothing to ask here\n", 403)
        return await self._service(request)


def _is_local(authority: str) -> bool:
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or bool(ip_address(host))
    except ValueError:
        return False
