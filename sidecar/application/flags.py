"""Parses the JSON of ``--app-probers`` and ``--prometheus-scrape``, which the injector writes. Pure.

Both have the shape of Istio's variables ISTIO_KUBE_APP_PROBERS and ISTIO_PROMETHEUS_ANNOTATIONS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

from sidecar.config.application import (
    AppProber,
    GrpcAction,
    HttpGetAction,
    PrometheusScrape,
    TcpSocketAction,
)
from sidecar.http.headers import CODEC_FIELDS

JsonObject = Mapping[str, Any]

APP_HEALTH: Final = "/app-health/"
_PATH: Final = re.compile(r"/app-health/[^/]+/(?:readyz|livez|startupz|(?P<hook>prestopz|poststartz))")
_DEFAULT_TIMEOUT_S: Final = 1.0  # of a probe in Kubernetes
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_NOT_IN_A_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 5.5
_HOST: Final = re.compile(r"[0-9A-Za-z._:-]+")
_NO_SCRAPE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})  # Go's strconv.ParseBool
_METRICS_PATH: Final = "/metrics"
_METRICS_PORT: Final = 80


def parse_app_probers(text: str) -> Mapping[str, AppProber]:
    """``{"/app-health/<container>/livez": {"httpGet": {"port": 80}, "timeoutSeconds": 1}}``; an empty text is
    an empty object. Raises `ValueError` that names the field."""
    if not text:
        return {}
    return {path: _prober(path, _object(value, path)) for path, value in _document(text).items()}


def _prober(path: str, prober: JsonObject) -> AppProber:
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(
            f"{path!r}: should be /app-health/CONTAINER/ and readyz, livez, startupz, prestopz or poststartz"
        )
    kinds = [kind for kind in _ACTIONS if prober.get(kind) is not None]
    if len(kinds) != 1:
        raise ValueError(f"{path}: should have exactly one of {', '.join(_ACTIONS)}")
    where = f"{path}: {kinds[0]}"
    action = _ACTIONS[kinds[0]](_object(prober[kinds[0]], where), where)
    timeout_s = prober.get("timeoutSeconds") or None
    if timeout_s is not None and (type(timeout_s) not in (int, float) or not 0 < timeout_s < float("inf")):
        raise ValueError(f"{path}: timeoutSeconds: {timeout_s!r} should be a number above 0")
    default_s = None if match["hook"] else _DEFAULT_TIMEOUT_S
    return AppProber(action=action, timeout_s=default_s if timeout_s is None else float(timeout_s))


def _http_get(action: JsonObject, where: str) -> HttpGetAction:
    _refuse_others(action, ("path", "port", "host", "scheme", "httpHeaders"), where)
    scheme = _text(action, "scheme", where) or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        raise ValueError(f"{where}.scheme: {scheme!r} should be HTTP or HTTPS")
    headers = _headers(action.get("httpHeaders"), f"{where}.httpHeaders")
    hosts = [value for name, value in headers if name == b"host"]
    return HttpGetAction(
        port=_port(action, where),
        host=_host(action, where),
        path=request_target(_text(action, "path", where)),
        https=scheme == "HTTPS",
        authority=hosts[-1] if hosts else b"",
        # The codec writes the fields that frame a message.
        headers=tuple(field for field in headers if field[0] not in CODEC_FIELDS and field[0] != b"host"),
    )


def _tcp_socket(action: JsonObject, where: str) -> TcpSocketAction:
    _refuse_others(action, ("port", "host"), where)
    return TcpSocketAction(port=_port(action, where), host=_host(action, where))


def _grpc(action: JsonObject, where: str) -> GrpcAction:
    _refuse_others(action, ("port", "service"), where)
    return GrpcAction(port=_port(action, where), service=_text(action, "service", where))


_ACTIONS: Final[Mapping[str, Callable[[JsonObject, str], HttpGetAction | TcpSocketAction | GrpcAction]]] = {
    "httpGet": _http_get,
    "tcpSocket": _tcp_socket,
    "grpc": _grpc,
}


def _headers(values: object, where: str) -> list[tuple[bytes, bytes]]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise _invalid(where, "should be a list")
    headers = []
    for index, value in enumerate(values):
        entry = _object(value, f"{where}[{index}]")
        _refuse_others(entry, ("name", "value"), f"{where}[{index}]")
        name, text = (_text(entry, key, f"{where}[{index}]") for key in ("name", "value"))
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{where}[{index}].name: invalid header name {name!r}")
        if _NOT_IN_A_VALUE.search(text):
            raise ValueError(f"{where}[{index}].value: invalid characters in the value of {name}")
        headers.append((name.lower().encode(), text.strip(" \t").encode()))
    return headers


def parse_prometheus_scrape(text: str) -> PrometheusScrape | None:
    """``{"scrape": "true", "path": "/metrics", "port": "9090"}``, the values of the pod's annotations; None
    if the application is not scraped. The defaults are Istio's: every field may be missing. Raises
    `ValueError` that names the field."""
    if not text:
        return None
    document = _document(text)
    _refuse_others(document, ("scrape", "path", "port"), "")
    if _text(document, "scrape", "") in _NO_SCRAPE:
        return None
    port = _text(document, "port", "")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError(f"port: {port!r} should be a port number")
    number = _port({"port": int(port)} if port else {"port": _METRICS_PORT}, "")
    return PrometheusScrape(port=number, path=request_target(_text(document, "path", "") or _METRICS_PATH))


def request_target(path: str) -> str:
    """The path and query of a request, in which only characters stay that RFC 3986 3.3 and 3.4 allow."""
    path = path.partition("#")[0]
    if not path.startswith("/"):
        path = f"/{path}"
    return quote(path, safe="/?%:@!$&'()*+,;=~-._[]")


# The parts.


def _document(text: str) -> JsonObject:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from error
    return _object(value, "the document")


def _object(value: object, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise _invalid(where, "should be an object")
    return value


def _refuse_others(value: JsonObject, known: Collection[str], where: str) -> None:
    for key in value:
        if key not in known:
            raise ValueError(f"{_join(where, key)}: is not supported")


def _text(value: JsonObject, key: str, where: str) -> str:
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise _invalid(_join(where, key), f"{text!r} should be a string")
    return text


def _host(value: JsonObject, where: str) -> str:
    host = _text(value, "host", where).removeprefix("[").removesuffix("]")
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"{_join(where, 'host')}: invalid host {host!r}")
    return host


def _port(value: JsonObject, where: str) -> int:
    port = value.get("port")
    if type(port) is not int or not 0 < port < 2**16:
        raise ValueError(f"{_join(where, 'port')}: {port!r} should be a port number")
    return port


def _invalid(field: str, reason: str) -> ValueError:
    return ValueError(f"{field}: {reason}")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
