"""Applies objects: server-side apply with our field manager. A dry run asks the API server for the result,
admission included, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from outrigger.cluster.objects import Document, ObjectReference, is_ours, reference

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

FIELD_MANAGER: Final = "outrigger"
_NOT_FOUND: Final = 404
# Fields that change with every write.
_VOLATILE: Final = frozenset({"managedFields", "resourceVersion", "generation"})
_MOST_SHOWN: Final = 10
_MISSING: Final = object()


async def apply(api: ClientApi, document: Document, *, dry_run: bool) -> str:
    """Returns a line for the user. Raises `KubernetesError`."""
    from controlplane.errors import RefusedError

    where = reference(document)
    before = await find(api, where)
    query = {"fieldManager": FIELD_MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
    try:
        after = await api.apply(where.path, document, query)
    except RefusedError as error:
        if dry_run and error.status == _NOT_FOUND:  # its namespace does not exist yet
            return f"{where} would be created"
        raise
    return f"{where} {_outcome(before, after, dry_run=dry_run)}"


def _outcome(before: Document | None, after: Document, *, dry_run: bool) -> str:
    if before is None:
        return "would be created" if dry_run else "created"
    if not dry_run:
        same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        return "unchanged" if same else "changed"
    changes = list(differences(before, after))
    more = f", and {len(changes) - _MOST_SHOWN} more" if len(changes) > _MOST_SHOWN else ""
    return f"would change: {', '.join(changes[:_MOST_SHOWN])}{more}" if changes else "unchanged"


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The fields that differ, such as `spec.replicas: 1 -> 2`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted((before.keys() | after.keys()) - _VOLATILE):
            inner = f"{path}.{key}" if path else key
            yield from differences(before.get(key, _MISSING), after.get(key, _MISSING), inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif before is _MISSING:
        yield f"{path} is added"
    elif after is _MISSING:
        yield f"{path} is removed"
    elif before != after:
        yield f"{path}: {before!r:.80} -> {after!r:.80}"


async def find(api: ClientApi, where: ObjectReference) -> Document | None:
    """Raises `KubernetesError`."""
    from controlplane.errors import RefusedError

    try:
        return await api.get(where.path)
    except RefusedError as error:
        if error.status == _NOT_FOUND:
            return None
        raise


async def remove(
    api: ClientApi, where: ObjectReference, *, dry_run: bool = False, any_owner: bool = False
) -> str:
    """Deletes an object if it is ours; with ``any_owner``, also another's. Its dependents go first. Returns a
    line for the user, or an empty string if the object does not exist. Raises `KubernetesError`."""
    from controlplane.errors import RefusedError

    found = await find(api, where)
    if found is None:
        return ""
    if not any_owner and not is_ours(found):
        return f"{where} kept: it has not the label app.kubernetes.io/part-of=outrigger"
    if dry_run:
        return f"{where} would be deleted"
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": found["metadata"]["uid"]},
    }
    try:
        await api.delete(where.path, options)
    except RefusedError as error:
        if error.status != _NOT_FOUND:
            raise
    return f"{where} deleted"
