"""The workload of a peer as headers: Istio's ``x-envoy-peer-metadata``, and ``baggage``.

``x-envoy-peer-metadata`` is the base64 form of a ``google.protobuf.Struct``. The data path has no protobuf:
this module reads and writes the strings of a Struct, and the Structs in it.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Final

from sidecar.config.endpoint import WorkloadMetadata

# Fields of Istio's metadata of a proxy.
_NAMES: Final = {"WORKLOAD_NAME": "name", "NAMESPACE": "namespace", "CLUSTER_ID": "cluster"}
_LABELS: Final = "LABELS"
_CANONICAL_NAME: Final = "service.istio.io/canonical-name"
_CANONICAL_REVISION: Final = "service.istio.io/canonical-revision"
_BAGGAGE: Final = {
    "k8s.namespace.name": "namespace",
    "k8s.cluster.name": "cluster",
    "service.name": "canonical_name",
    "service.version": "canonical_revision",
    "k8s.deployment.name": "name",
    "k8s.job.name": "name",
    "k8s.cronjob.name": "name",
    "k8s.pod.name": "name",
}
LONGEST_BYTES: Final = 8192
_LONGEST_VALUE: Final = 253  # of a DNS name, which all of these are

# Protobuf's wire format: the keys of a Struct's entry (1), its key (1) and value (2); of a Value's
# string_value (3) and struct_value (5). All of them have a length.
_ENTRY: Final = 0x0A
_KEY: Final = 0x0A
_VALUE: Final = 0x12
_STRING: Final = 0x1A
_STRUCT: Final = 0x2A
_OTHER_SIZES: Final = {1: 8, 5: 4}

Struct = Mapping[str, "str | Struct"]


def encode_metadata(workload: WorkloadMetadata) -> bytes:
    """The value of ``x-envoy-peer-metadata``."""
    labels = {_CANONICAL_NAME: workload.canonical_name, _CANONICAL_REVISION: workload.canonical_revision}
    strings = {name: getattr(workload, attribute) for name, attribute in _NAMES.items()}
    data = b"".join(_entry(name, _STRING, text.encode()) for name, text in sorted(strings.items()) if text)
    inside = b"".join(_entry(name, _STRING, text.encode()) for name, text in sorted(labels.items()) if text)
    return b2a_base64(_entry(_LABELS, _STRUCT, inside) + data, newline=False)


def _entry(name: str, kind: int, content: bytes) -> bytes:
    key, value = name.encode(), bytes([kind]) + _length(content) + content
    body = bytes([_KEY]) + _length(key) + key + bytes([_VALUE]) + _length(value) + value
    return bytes([_ENTRY]) + _length(body) + body


def _length(data: bytes) -> bytes:
    size, digits = len(data), bytearray()
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)


def decode_metadata(value: bytes) -> WorkloadMetadata | None:
    """None for a value that is not valid."""
    if len(value) > LONGEST_BYTES:
        return None
    try:
        found = _struct(a2b_base64(value + b"=" * (-len(value) % 4)), depth=1)
        labels = found.get(_LABELS, {})
        given = {attribute: _text(found, name) for name, attribute in _NAMES.items()}
        if not isinstance(labels, str):
            given["canonical_name"] = _text(labels, _CANONICAL_NAME)
            given["canonical_revision"] = _text(labels, _CANONICAL_REVISION)
    except (Error, ValueError):  # a UnicodeDecodeError is one
        return None
    return WorkloadMetadata(**given)


def _text(struct: Struct, name: str) -> str:
    text = struct.get(name, "")
    return _checked(text) if isinstance(text, str) else ""


def _checked(text: str) -> str:
    """Raises ``ValueError`` for a text that is no name of a workload."""
    if len(text) > _LONGEST_VALUE or not text.isprintable() or ";" in text:
        raise ValueError(text)
    return text


def _struct(data: bytes, depth: int) -> dict[str, str | Struct]:
    """The strings of a Struct, and the Structs in it, `depth` levels deep. Raises ``ValueError``."""
    found: dict[str, str | Struct] = {}
    for key, entry in _fields(data):
        if key != _ENTRY:
            continue
        parts = dict(_fields(entry))
        for kind, content in _fields(parts.get(_VALUE, b"")):
            name = parts.get(_KEY, b"").decode()
            if kind == _STRING:
                found[name] = content.decode()
            elif kind == _STRUCT and depth:
                found[name] = _struct(content, depth - 1)
    return found


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """The fields of a message that have a length, by their keys; others are skipped."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire_type = key & 7
        if wire_type == 0:
            _, at = _varint(data, at)
            continue
        if wire_type == 2:
            size, at = _varint(data, at)
            fields.append((key, data[at : at + size]))
        else:
            size = _OTHER_SIZES.get(wire_type, len(data))
        at += size
        if at > len(data):
            raise ValueError("is cut off")
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and the place after it."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("is no number")


def encode_baggage(workload: WorkloadMetadata) -> bytes:
    """The value of ``baggage``, in the names of OpenTelemetry's resources."""
    parts = (
        ("k8s.deployment.name", workload.name),
        ("k8s.cluster.name", workload.cluster),
        ("k8s.namespace.name", workload.namespace),
        ("service.name", workload.canonical_name),
        ("service.version", workload.canonical_revision),
    )
    return ",".join([f"{key}={value}" for key, value in parts if value]).encode()


def decode_baggage(value: bytes) -> WorkloadMetadata | None:
    """None for a value that names no workload: applications have baggage of their own."""
    if len(value) > LONGEST_BYTES:
        return None
    given: dict[str, str] = {}
    try:
        for part in value.decode().split(","):
            key, _, text = part.partition("=")
            attribute = _BAGGAGE.get(key.strip())
            if attribute is not None:
                given[attribute] = _checked(text.partition(";")[0].strip())
    except ValueError:
        return None
    return WorkloadMetadata(**given) if given else None
