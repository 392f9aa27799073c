"""Keeps web pages away from the admin interface, which has no passwords.

The admin interface listens on loopback only. But any web page can make a browser on the same machine send a
POST to ``http://127.0.0.1:15000/quitquitquit`` (cross-site request forgery), and a page whose domain resolves
to 127.0.0.1 can also read the answers (DNS rebinding). Envoy leaves both to its users.
"""

from __future__ import annotations

from ipaddress import ip_address

from sidecar.admin.answers import text
from sidecar.authority import split_authority
from sidecar.http.headers import get_header
from sidecar.http.message import Request, Response, Service


class LocalClients:
    """Passes on a request whose authority is an IP address or ``localhost``, and refuses one from another
    origin."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        if request.authority and not _is_local(request.authority):
            authority = request.authority.decode("latin-1")
            return text(f"the host {authority} is refused: use localhost or an IP address\n", 403)
        origin = get_header(request.headers, b"origin")
        if origin is not None and origin != b"http://" + request.authority:
            return text("requests from a web page of another origin are refused\n", 403)
        return await self._service(request)


def _is_local(authority: bytes) -> bool:
    try:
        host, _ = split_authority(authority)
        return host.lower() == "localhost" or bool(ip_address(host))
    except ValueError:
        return False
