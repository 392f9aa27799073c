"""The application's probes and hooks, which the kubelet sends to the sidecar: the kubelet has no certificate
of the mesh, so the sidecar of an application that requires mutual TLS would refuse it.

https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Final

from sidecar.admin.answers import text
from sidecar.application.connection import open_socket, unverified_tls
from sidecar.application.grpc_probe import check_grpc
from sidecar.application.http_client import exchange
from sidecar.application.redirects import (
    MAX_REQUESTS,
    HttpTarget,
    ProbeError,
    is_redirect,
    next_target,
)
from sidecar.config.application import AppProber, GrpcAction, HttpGetAction, TcpSocketAction
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import RequestError
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response

_LOG = logging.getLogger(__name__)

_Outcome = tuple[int, str]  # the status of the response, and the reason of a failure

# The kubelet reads as much of a body, so that the application is not cut short in its answer.
_MAX_BODY_BYTES: Final = 10 * 1024
_PASSED_ON: Final = (b"user-agent", b"accept")


class AppHealth:
    """A `Service` for ``/app-health/<container>/<probe>``. ``host`` is the pod's own IP address.

    It only does what `probers` contain, whatever the request says. While a probe runs, requests for the same
    one share its answer: the port is open to the whole cluster, and must not multiply requests.
    """

    def __init__(self, probers: Mapping[str, AppProber], host: str) -> None:
        self._probers = probers
        self._host = host
        self._tls = unverified_tls()
        self._running: dict[str, asyncio.Task[_Outcome]] = {}

    async def __call__(self, request: Request) -> Response:
        path = request.path.partition(b"?")[0].decode("latin-1")
        prober = self._probers.get(path)
        if prober is None:
            return text(f"no probe or hook of the application has the path {path}\n", 404)
        task = self._running.get(path)
        if task is None:
            task = asyncio.create_task(self._run(path, prober, request.headers), name=path)
            self._running[path] = task
            task.add_done_callback(lambda _: self._running.pop(path))
        status, reason = await asyncio.shield(task)
        return text(reason, status)

    async def close(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, path: str, prober: AppProber, headers: Headers) -> _Outcome:
        """Istio's statuses: that of the application, or 500 if there is none."""
        try:
            async with asyncio.timeout(prober.timeout_s):
                return await self._perform(prober.action, headers), ""
        except TimeoutError:
            reason = f"no answer within {prober.timeout_s:g} s"
        except ssl.SSLError as error:
            reason = f"TLS_error: {error.reason or error}"
        except OSError as error:
            reason = f"cannot connect: {os.strerror(error.errno) if error.errno else error}"
        except (RequestError, ProbeError) as error:
            reason = str(error)
        _LOG.info("%s: the probe of the application has failed: %s", path, reason)
        return 500, f"{reason}\n"

    async def _perform(self, action: HttpGetAction | TcpSocketAction | GrpcAction, headers: Headers) -> int:
        """The status. Raises `OSError`, `RequestError` or `ProbeError`."""
        if isinstance(action, HttpGetAction):
            return await self._get(action, headers)
        if isinstance(action, TcpSocketAction):
            (await open_socket(SocketAddress(action.host or self._host, action.port))).close()
        else:
            agent = get_header(headers, b"user-agent") or b""
            await check_grpc(SocketAddress(self._host, action.port), action.service, agent.decode("latin-1"))
        return 200

    async def _get(self, action: HttpGetAction, received: Headers) -> int:
        configured = {name for name, _ in action.headers}
        headers = [
            *action.headers,
            *(field for field in received if field[0] in _PASSED_ON and field[0] not in configured),
        ]
        address = SocketAddress(action.host or self._host, action.port)
        target = HttpTarget(address, action.path, action.https, action.authority or str(address).encode())
        for _ in range(MAX_REQUESTS):
            tls = self._tls if target.https else None
            async with exchange(
                target.address, target.path, headers, authority=target.authority, tls=tls
            ) as response:
                if not is_redirect(response.status):
                    await _read(response)
                    return response.status
                location = get_header(response.headers, b"location")
                following = next_target(target, response.status, location)
            if following is None:
                return 200  # as the kubelet judges a redirect that it does not follow
            target = following
        raise ProbeError(f"stopped after {MAX_REQUESTS} redirects")


async def _read(response: Response) -> None:
    """Drops the body, or the first part of a long one."""
    left = _MAX_BODY_BYTES
    while left > 0 and (data := await response.body.read()):
        left -= len(data)
