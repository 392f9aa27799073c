"""Random resources: every field that the models have, with values that users might write.

The models tell the fields; the values of strings come from pools by the field's name, which hold ordinary
values and odd ones. Invalid resources are generated again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import ValidationError

from controlplane.resources.base import Message
from tests.support.documents import Document

_TEXTS = ["", "a", "v1", "x y", "ü", "%", "$1", "a,b", "{}", '"', "\t", "0", "/", "//", "*", "\\", "x" * 300]
_PATHS = ["/", "", "/a", "/a/", "a", "//", "/%41", "/ü", "/a?b=c", "/" + "x" * 300, "/a#b", "/*", "/{x}"]
_REGEXES = [".*", "/a/(.*)", "^x$", "a|b", "[a-z]+", "(?i)a", "()", "\\d+", "x{1,3}", "ü", "(a)(b)", "", "("]
_DURATIONS = ["1ms", "1s", "0s", "1h", "0.5s", "1.5ms", "500000h", "999999h", "1h30m", "1ns"]
_POOLS: dict[str, Sequence[Any]] = {
    "exact": [*_TEXTS, *_PATHS],
    "prefix": [*_TEXTS, *_PATHS],
    "uri": _PATHS,
    "regex": _REGEXES,
    "match": _REGEXES,
    "rewrite": ["/\\1", "/\\0", "x", "", "/\\\\", "\\9"],
    "authority": ["a.example.com", "a:80", "", "ü", "a b"],
    "scheme": ["http", "https", ""],
    "retry_on": ["5xx", "503", "5xx,gateway-error, 429", "unavailable,cancelled", "reset,retriable-4xx", ""],
    "status": [200, 204, 304, 404, 503, 599],
    "http_status": [200, 418, 503],
    "grpc_status": ["OK", "UNAVAILABLE", "UNAUTHENTICATED"],
    "allow_methods": ["GET", "PUT", "*"],
    "allow_headers": ["x-a", "X-B", "*"],
    "expose_headers": ["x-a", "X-B"],
    "redirect_code": [0, 301, 302, 303, 307, 308],
    "gateways": ["mesh", "mesh", "public", "istio-system/public"],
    "export_to": ["*", ".", "default", "other", "~"],
    "destination_subnets": ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "10.1.2.3/24"],
    "addresses": ["10.20.0.1", "10.20.0.2", "10.21.0.0/16", "fd00::7", "fd00:1::/64"],
    "address": ["10.0.0.1", "10.0.0.2", "fd00::1", "db.example.com"],
    "cluster_ip": ["", "None", "10.96.0.9", "fd00::9"],
    "cluster_ips": ["10.96.0.9", "fd00::9"],
    "target_port": [80, 8080, 65535],
    "app_protocol": ["http", "grpc", "kubernetes.io/h2c", "tcp", "https", "odd"],
    "protocol": ["HTTP", "HTTPS", "GRPC", "HTTP2", "TCP", "TLS", "MONGO", ""],
    "locality": ["", "a/b/c", "a", "a/b/c/d", "/b"],
    "bind": ["127.0.0.1", "0.0.0.0", "::1"],
    "default_endpoint": ["127.0.0.1:8080", "0.0.0.0:9", "[::1]:80", "[::]:81"],
    "service_account": ["", "default", "reviews", "Not_Valid"],
    "subject_alt_names": ["a.example.com", "spiffe://cluster.local/ns/default/sa/a", "ü"],
    "sni": ["a.example.com", "x" * 63, "x" * 64],
}
_KEYS: dict[str, Sequence[str]] = {
    "headers": ["x-a", "X-B", "cookie", "host"],
    "without_headers": ["x-a", "user-agent"],
    "query_params": ["q", "a b", "ü", "%"],
    "set": ["x-a", "host", "user-agent", "connection", "content-length", "x" * 200],
    "add": ["x-a", "set-cookie", "host"],
    "ports": ["http", "tcp"],
    "port_level_mtls": ["80", "9080", "8443"],
}
_ITEMS: dict[str, Sequence[str]] = {"remove": ["x-a", "server", "host", "cookie"]}
_LABELS = [{}, {"app": "a"}, {"app": "b"}, {"version": "v1"}, {"app": "a", "version": "v2"}]


_ATTEMPTS = 500
_SHARE_OF_FIELDS = 0.4


class ResourceMaker:
    """``pools`` override what strings and numbers are chosen from, by the field's name."""

    def __init__(self, seed: int, **pools: Sequence[Any]) -> None:
        self._random = random.Random(seed)
        self._pools = {**_POOLS, **pools}

    def with_pools(self, **pools: Sequence[Any]) -> ResourceMaker:
        """One that goes on with this one's random numbers."""
        maker = ResourceMaker(0, **{**self._pools, **pools})
        maker._random = self._random
        return maker

    def spec(self, model: type[Message], **fixed: Any) -> Document:
        """A valid one. ``fixed`` fields, by their attribute's name, have the value given."""
        for _ in range(_ATTEMPTS):
            made = self._attempt(model, fixed)
            try:
                model.model_validate(made)
            except ValidationError:
                continue
            return made
        raise AssertionError(f"no valid {model.__name__} in {_ATTEMPTS} attempts: improve the pools")

    def _attempt(self, model: type[Message], fixed: Mapping[str, Any]) -> Document:
        made: Document = {}
        for name, field in model.model_fields.items():
            if name in fixed:
                made[field.alias or name] = fixed[name]
            elif field.annotation in (type(None), Any):  # not supported yet, or not read
                continue
            elif field.is_required() or self._random.random() < _SHARE_OF_FIELDS:
                made[field.alias or name] = self._value(name, field.annotation, field.metadata)
        return made

    def _value(self, name: str, annotation: Any, metadata: Sequence[object] = ()) -> Any:
        if hasattr(annotation, "__metadata__"):
            return self._value(name, annotation.__origin__, (*metadata, *annotation.__metadata__))
        origin = get_origin(annotation)
        if origin in (Union, UnionType):
            chosen = next(each for each in get_args(annotation) if each is not type(None))
            return self._value(name, chosen, metadata)
        if origin is tuple:
            return [self._value(name, get_args(annotation)[0]) for _ in range(self._random.randint(1, 3))]
        if origin is dict:
            return self._mapping(name, get_args(annotation)[1])
        if isinstance(annotation, type) and issubclass(annotation, Message):
            return self.spec(annotation)
        return self._scalar(name, annotation, metadata)

    def _mapping(self, name: str, values: Any) -> Any:
        if name not in _KEYS:
            return dict(self._random.choice(_LABELS))
        return {self._random.choice(_KEYS[name]): self._value("", values) for _ in range(2)}

    def _scalar(self, name: str, annotation: Any, metadata: Sequence[object]) -> Any:
        pool = self._pools.get(name) or _ITEMS.get(name)
        if pool is not None:
            return self._random.choice(pool)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return self._random.choice(list(annotation)).value
        makers: Mapping[Any, Callable[[], Any]] = {
            bool: lambda: self._random.random() < 0.5,
            int: lambda: self._number(metadata),
            float: lambda: float(self._number(metadata)),
            timedelta: lambda: self._random.choice(_DURATIONS),
            str: lambda: self._random.choice(_TEXTS),
        }
        return makers[annotation]()

    def _number(self, metadata: Sequence[object]) -> int:
        constraints = [each for part in metadata for each in getattr(part, "metadata", (part,))]
        lowest = next((int(str(each.ge)) for each in constraints if isinstance(each, Ge)), 0)
        highest = next((int(str(each.le)) for each in constraints if isinstance(each, Le)), 2**31 - 1)
        return self._random.choice([lowest, lowest + 1, min(100, highest), highest])
