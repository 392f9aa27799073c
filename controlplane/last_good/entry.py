"""One stored version as JSON. It may be damaged, edited by hand or written by another release, so it is
validated like any resource. A version that cannot be used becomes an `Unusable` with the reason."""

from __future__ import annotations

import json
from typing import Any, Final

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.last_good import LastGood, Unusable
from controlplane.model.snapshot import ResourceKey

_STRINGS: Final = ("since", "uid", "file")
_NUMBERS: Final = ("generation", "faultyGeneration")


def entry_of(last_good: LastGood) -> dict[str, Any]:
    """Returns a value that `json.dumps` accepts."""
    return {
        "resource": KINDS.document_of(last_good.resource),
        "since": last_good.since,
        "uid": last_good.uid,
        "generation": last_good.generation,
        "faultyGeneration": last_good.faulty_generation,
        "file": last_good.file,
    }


def encode(last_good: LastGood) -> str:
    return json.dumps(entry_of(last_good), separators=(",", ":"))


def decode(text: str, key: ResourceKey) -> LastGood | Unusable:
    """Parses the stored version of the resource ``key``."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unusable(reason=f"not JSON: {error}")
    return read_entry(entry, key)


def read_entry(entry: object, key: ResourceKey) -> LastGood | Unusable:
    if not isinstance(entry, dict):
        return Unusable(reason="not a JSON object")
    for fields, kind, what in ((_STRINGS, str, "a string"), (_NUMBERS, int, "a number")):
        for field in fields:
            if type(entry.get(field, kind())) is not kind:
                return Unusable(reason=f"{field}: must be {what}")
    try:
        found = key_of(entry)
        if found != key:
            return Unusable(reason=f"it belongs to {found}")
        resource = KINDS.parse(entry.get("resource"), served=True)
    except ResourceError as error:
        return Unusable(reason=str(error))
    return LastGood(
        resource=resource,
        since=entry.get("since", ""),
        uid=entry.get("uid", ""),
        generation=entry.get("generation", 0),
        faulty_generation=entry.get("faultyGeneration", 0),
        file=entry.get("file", ""),
    )


def key_of(entry: object) -> ResourceKey:
    """Returns the key of the resource that an entry contains. Raises `ResourceError` when it is missing."""
    document = entry.get("resource") if isinstance(entry, dict) else None
    kind, namespace, name = KINDS.identify(document)
    return ResourceKey(kind=kind, namespace=namespace, name=name)
