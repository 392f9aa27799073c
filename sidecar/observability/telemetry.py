"""The observers of requests and connections: metrics by direction, and access logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from sidecar.config.endpoint import WorkloadMetadata
from sidecar.config.listener import AccessLog, TrafficDirection
from sidecar.errors import ConfigError
from sidecar.observability.access_log import AccessLogger
from sidecar.observability.log_file import LogFile
from sidecar.observability.log_operators import LoggedRequest, LoggedResponse
from sidecar.observability.request_metrics import ConnectionSeries, LocalWorkload, RequestMetrics
from sidecar.observability.series import Place
from sidecar.observability.stream_info import StreamInfo

STDOUT = "/dev/stdout"
JSON_FORMAT: Mapping[str, str] = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_request_attempt_count": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_peer_uri_san": "%DOWNSTREAM_PEER_URI_SAN%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}


class ObservedRequest(LoggedRequest, Protocol):
    info: StreamInfo


OnComplete = Callable[[ObservedRequest, LoggedResponse | None], None]
OnDisconnect = Callable[[StreamInfo], None]


class Telemetry:
    """The two reporters of a worker, and its log files. `access_log` is ``off``, ``text`` or ``json``: the
    log that the command line adds to every listener."""

    def __init__(self, local: LocalWorkload, *, access_log: str) -> None:
        self.source = RequestMetrics("source", local)
        self.destination = RequestMetrics("destination", local)
        self._everywhere: tuple[AccessLog, ...] = ()
        if access_log != "off":
            format_ = JSON_FORMAT if access_log == "json" else None
            self._everywhere = (AccessLog(path=STDOUT, format=format_),)
        self._files: dict[str, LogFile] = {}
        self._flushing: dict[str, asyncio.Task[None]] = {}

    @property
    def reporters(self) -> tuple[RequestMetrics, ...]:
        return (self.source, self.destination)

    def name_workload(self, own: WorkloadMetadata) -> None:
        """Sets the owner's name, from the control plane: a pod's name would create series for each pod."""
        for reporter in self.reporters:
            reporter.local = replace(reporter.local, name=own.name or reporter.local.name)

    def sweep(self, places: Collection[Place]) -> None:
        """As `SeriesTable.sweep`."""
        for reporter in self.reporters:
            reporter.sweep(places)

    def for_requests(
        self, direction: TrafficDirection, access_logs: Iterable[AccessLog]
    ) -> tuple[OnComplete, ...]:
        """The functions to call at the end of each request of a listener. Raises `ConfigError` for a log
        that cannot be opened, or an invalid format."""
        observers = [_logging(logger) for logger in self._loggers((*self._everywhere, *access_logs))]
        metrics = self._metrics(direction)
        return tuple(observers) if metrics is None else (_counting(metrics), *observers)

    def for_connections(
        self, direction: TrafficDirection, access_logs: Iterable[AccessLog]
    ) -> ConnectionTelemetry:
        """The observer of a TCP proxy's connections. Raises `ConfigError` as `for_requests` does."""
        return ConnectionTelemetry(
            self._metrics(direction), tuple(self._loggers((*self._everywhere, *access_logs)))
        )

    def for_listener(self, access_logs: Iterable[AccessLog]) -> tuple[OnDisconnect, ...]:
        """The functions to call at the end of each connection of a listener: only the listener's own logs,
        since the other logs receive the requests. Raises `ConfigError`."""
        return tuple(
            (lambda info, log=logger.log: log(info, None, None)) for logger in self._loggers(access_logs)
        )

    def reopen_logs(self) -> None:
        """After log rotation: reopens each file by its path, within a second."""
        for file in self._files.values():
            file.reopen()

    async def close(self) -> None:
        """Writes the remaining lines, and closes the files."""
        for task in self._flushing.values():
            task.cancel()
        await asyncio.gather(*self._flushing.values(), return_exceptions=True)
        for file in self._files.values():
            file.close()

    def _metrics(self, direction: TrafficDirection) -> RequestMetrics | None:
        """A listener without a direction, as in a plain Envoy bootstrap file, is not part of a mesh."""
        if direction is TrafficDirection.UNSPECIFIED:
            return None
        return self.source if direction is TrafficDirection.OUTBOUND else self.destination

    def _loggers(self, access_logs: Iterable[AccessLog]) -> list[AccessLogger]:
        return [AccessLogger(self._file(log.path), log, path=f"access_log {log.path}") for log in access_logs]

    def _file(self, path: str) -> LogFile:
        file = self._files.get(path)
        if file is None:
            try:
                file = self._files[path] = LogFile(path)
            except OSError as error:
                raise ConfigError("access_log.path", f"{path}: {error.strerror}") from error
            self._flushing[path] = asyncio.create_task(file.run(), name=f"access log {path}")
        return file


class ConnectionTelemetry:
    """Metrics and access log of the TCP connections of one filter chain. As in Istio, a connection that never
    reached a host counts as opened and closed at the same time."""

    def __init__(self, metrics: RequestMetrics | None, loggers: tuple[AccessLogger, ...]) -> None:
        self._metrics = metrics
        self._loggers = loggers
        self._open: dict[StreamInfo, _OpenConnection] = {}

    def opened(self, info: StreamInfo) -> None:
        if self._metrics is not None:
            self._open[info] = _OpenConnection(self._metrics.connection(info))

    def progressed(self, info: StreamInfo) -> None:
        """Ignores a connection that has not reached its host yet: its labels are unknown."""
        connection = self._open.get(info)
        if connection is not None:
            connection.count(info)

    def closed(self, info: StreamInfo) -> None:
        if self._metrics is not None:
            connection = self._open.pop(info, None) or _OpenConnection(self._metrics.connection(info))
            connection.count(info)
            connection.series.closed += 1
        for logger in self._loggers:
            logger.log(info, None, None)


class _OpenConnection:
    """The bytes of a connection that its series has already counted."""

    __slots__ = ("_received_bytes", "_sent_bytes", "series")

    def __init__(self, series: ConnectionSeries) -> None:
        self.series = series
        self._received_bytes = 0
        self._sent_bytes = 0
        series.opened += 1

    def count(self, info: StreamInfo) -> None:
        self.series.received_bytes += info.bytes_received - self._received_bytes
        self.series.sent_bytes += info.bytes_sent - self._sent_bytes
        self._received_bytes = info.bytes_received
        self._sent_bytes = info.bytes_sent


def _counting(metrics: RequestMetrics) -> OnComplete:
    record = metrics.record
    return lambda request, _: record(request.info)


def _logging(logger: AccessLogger) -> OnComplete:
    return lambda request, response: logger.log(request.info, request, response)
