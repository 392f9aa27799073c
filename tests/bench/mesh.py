"""The bootstrap files of the mesh case: what Istio sends to the sidecars of a client and of a server.

The stock Envoy has no Istio filters. So its files have an access logger that counts: the four Istio metrics
of a request, with the labels that the stock Envoy knows. The sidecar counts them with all labels, without
configuration. In Istio's Envoy, the filter istio.stats does it.
"""

from __future__ import annotations

from typing import Any

from tests.bench.documents import Document, client_tls, cluster, document, http_filter, listener, server_tls
from tests.bench.site import Site
from tests.bench.traffic import Arrangement
from tests.support.envoy_config import TYPE

_HOST = "server.default.svc.cluster.local"
# Istio's default format (meshConfig.accessLogFormat).
_LOG_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
_RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2,
    "retriable_status_codes": [503],
    "host_selection_retry_max_attempts": "5",
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": f"{TYPE}/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
}
_MANAGER = {
    "normalize_path": True,
    "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    "upgrade_configs": [{"upgrade_type": "websocket"}],
    "stream_idle_timeout": "0s",
}


def mesh_hop(site: Site, *, logged: bool) -> Arrangement:
    """Both proxies of one request from the client to the server. `logged`: each writes its access log."""
    outbound, inbound = site.free_port(), site.free_port()
    logs = [_text_log()] if logged else []
    ports = {"outbound": outbound, "inbound": inbound}
    return Arrangement(
        port=outbound,
        documents=[_server(site, **ports, logs=logs), _client(site, **ports, logs=logs)],
        for_envoy=[
            _server(site, **ports, logs=[*logs, _metrics("destination")]),
            _client(site, **ports, logs=[*logs, _metrics("source")]),
        ],
    )


def _client(site: Site, *, outbound: int, inbound: int, logs: list[Document]) -> Document:
    name = f"outbound|80||{_HOST}"
    route = {"cluster": name, "timeout": "0s", "retry_policy": _RETRIES}
    host = {
        "name": f"{_HOST}:80",
        "domains": [_HOST, "server", "server.default", "*"],
        "routes": [{"name": "default", "match": {"prefix": "/"}, "route": route}],
        "include_request_attempt_count": True,
    }
    entry = listener(outbound, http_filter([host], access_log=logs, **_MANAGER), traffic_direction="OUTBOUND")
    to_server = cluster(inbound, name=name, tls=client_tls(site.client), **_service(), **_limits())
    for endpoint in to_server["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        endpoint["metadata"] = _metadata({"workload": "server-v1;default;server;v1;Kubernetes"})
    return _workload(document([entry], [to_server]), "client")


def _server(site: Site, *, outbound: int, inbound: int, logs: list[Document]) -> Document:
    name = "inbound|80||"
    host = {
        "name": name,
        "domains": ["*"],
        "routes": [
            {"name": "default", "match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
        ],
    }
    manager = http_filter(
        [host],
        access_log=logs,
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details={"subject": True, "uri": True, "dns": True},
        **_MANAGER,
    )
    entry = listener(inbound, manager, server_tls(site.server), traffic_direction="INBOUND")
    application = cluster(site.upstream(), name=name, **_service(), **_limits())
    return _workload(document([entry], [application]), "server")


def _workload(made: Document, name: str) -> Document:
    labels = {
        "app": name,
        "version": "v1",
        "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": "v1",
    }
    metadata = {
        "NAME": f"{name}-v1-5d8f6b",
        "WORKLOAD_NAME": f"{name}-v1",
        "NAMESPACE": "default",
        "SERVICE_ACCOUNT": name,
        "CLUSTER_ID": "Kubernetes",
        "LABELS": labels,
    }
    identity = f"sidecar~127.0.0.1~{name}-v1-5d8f6b.default~default.svc.cluster.local"
    return made | {"node": {"id": identity, "cluster": f"{name}.default", "metadata": metadata}}


def _service() -> Document:
    service = {"host": _HOST, "name": "server", "namespace": "default"}
    return {"metadata": _metadata({"services": [service]})}


def _metadata(istio: Document) -> Document:
    return {"filter_metadata": {"istio": istio}}


def _limits() -> Document:
    most = 2**32 - 1
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "circuit_breakers": {"thresholds": [{**dict.fromkeys(limits, most), "track_remaining": True}]},
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "10s",
            "base_ejection_time": "30s",
            "max_ejection_percent": 50,
        },
    }


def _text_log() -> Document:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": {"text_format_source": {"inline_string": _LOG_FORMAT}},
        },
    }


def _metrics(reporter: str) -> Document:
    """For the stock Envoy. Labels that only Istio's filters know are constants here, as long as real ones."""
    peer = "%DOWNSTREAM_PEER_URI_SAN%" if reporter == "destination" else "%UPSTREAM_PEER_URI_SAN%"
    labels = {
        "reporter": reporter,
        "source_principal": peer if reporter == "destination" else "unknown",
        "destination_principal": "unknown" if reporter == "destination" else peer,
        "destination_service": _HOST,
        "source_workload": "client-v1",
        "destination_workload": "server-v1",
        "request_protocol": "%PROTOCOL%",
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": "mutual_tls" if reporter == "destination" else "unknown",
    }

    def stat(name: str) -> Document:
        return {
            "name": name,
            "tags": [{"name": name, "value_format": value} for name, value in labels.items()],
        }

    def histogram(name: str, unit: str, value: str) -> Document:
        return {"stat": stat(name), "unit": unit, "value_format": value}

    config: dict[str, Any] = {
        "@type": f"{TYPE}/envoy.extensions.access_loggers.stats.v3.Config",
        "stat_prefix": "istio",
        "counters": [{"stat": stat("requests_total"), "value_fixed": 1}],
        "histograms": [
            histogram("request_duration", "Milliseconds", "%DURATION%"),
            histogram("request_bytes", "Bytes", "%BYTES_RECEIVED%"),
            histogram("response_bytes", "Bytes", "%BYTES_SENT%"),
        ],
    }
    return {"name": "envoy.access_loggers.stats", "typed_config": config}
