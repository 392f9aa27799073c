"""Protects the debug API, which tells everything about the mesh.

A caller on the same machine or in the same pod needs no token: that includes `kubectl port-forward`, for
which the API server has checked a permission. A web page must not use a browser on this machine for that, so
the host must be an IP address or ``localhost`` (DNS rebinding). From any other address a bearer token is
required. Probes are open: kubelets have no token.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from controlplane.errors import AccessError

_PROBES: Final = ("/ready", "/healthz")
_BEARER: Final = "bearer "
_MAX_TOKEN_CHARACTERS: Final = 16 * 1024
_NO_TOKEN: Final = (
    "from another machine or pod the debug API requires a bearer token of a user who may `get` this path; "
    "`kubectl port-forward` needs none"
)


class Authorizer(Protocol):
    async def authorize(self, token: str, verb: str, path: str) -> None:
        """Raises `AccessError` unless the token's user may do ``verb``, such as ``get``, with the path."""
        ...


class ProtectedApp:
    """An ASGI application that passes permitted requests on to ``app``. While ``authorizer`` returns None,
    callers from other addresses are refused."""

    def __init__(self, app: ASGIApp, authorizer: Callable[[], Authorizer | None]) -> None:
        self._app: Final = app
        self._authorizer: Final = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._check(scope)
        except AccessError as error:
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            response = JSONResponse({"detail": str(error)}, error.status, headers)
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raises `AccessError`."""
        path, headers = scope["path"], Headers(scope=scope)
        if path in _PROBES:
            return
        if _is_loopback((scope.get("client") or ("", 0))[0]):
            host = headers.get("host", "")
            if not _is_local(host):
                raise AccessError(403, f"the host {host!r:.80} is refused: use localhost or an IP address")
            return
        authorizer = self._authorizer()
        if authorizer is None:
            raise AccessError(403, "the debug API is open to callers on this machine only")
        verb = {"GET": "get", "HEAD": "get"}.get(scope["method"], scope["method"].lower())
        await authorizer.authorize(_bearer_token(headers), verb, path)


def _bearer_token(headers: Headers) -> str:
    """The bearer token (RFC 6750 section 2.1). Raises `AccessError`."""
    values = headers.getlist("authorization")
    if not values:
        raise AccessError(401, _NO_TOKEN)
    token = values[0][len(_BEARER) :].strip()
    if len(values) > 1 or not values[0].lower().startswith(_BEARER) or not token:
        raise AccessError(401, "expected one authorization header with a bearer token")
    if len(token) > _MAX_TOKEN_CHARACTERS:
        raise AccessError(401, f"the token has {len(token)} characters, more than {_MAX_TOKEN_CHARACTERS}")
    return token


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def _is_local(host: str) -> bool:
    """Whether the Host header, ``HOST`` or ``HOST:PORT``, has an IP address or ``localhost``."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]") or not port.isdecimal():
        name = host
    if name.lower() == "localhost":
        return True
    try:
        return bool(ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False
