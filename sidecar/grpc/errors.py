"""Errors of a call."""

from __future__ import annotations

from sidecar.grpc_status import GrpcStatus


class Http2Error(Exception):
    """The server broke the protocol of HTTP/2. ``counter``: the statistic of Envoy that counts it, below
    ``http2.``; it may be empty."""

    def __init__(self, reason: str, counter: str) -> None:
        super().__init__(reason)
        self.counter = counter


class GrpcError(Exception):
    """``str`` gives the status and the details."""

    def __init__(self, status: GrpcStatus, details: str) -> None:
        super().__init__(f"{status.name}: {details}")
        self.status = status
        self.details = details
