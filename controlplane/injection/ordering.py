"""The order of the containers of an injected pod."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.injection import names
from controlplane.injection.pod import JsonObject, items


def order(pod: JsonObject, *, native: bool, hold_application: bool) -> None:
    """Sorts the containers of ``pod``.

    A native sidecar starts before the user's init containers, whose traffic it carries. Otherwise the
    interception rules are set after them: no proxy could carry their traffic. An ordinary container of the
    proxy is last, so that `kubectl exec` chooses the application, or first if the application waits for it.
    The validation of a network plug-in's rules is always first.
    """
    spec = pod["spec"]
    if native:
        _sort(spec, "initContainers", first=(names.VALIDATION, names.INIT, names.AGENT, names.PROXY))
    else:
        _sort(spec, "initContainers", first=(names.VALIDATION,), last=(names.INIT,))
        proxy = (names.PROXY,)
        _sort(
            spec,
            "containers",
            first=proxy if hold_application else (),
            last=() if hold_application else proxy,
        )


def _sort(spec: JsonObject, key: str, *, first: Sequence[str] = (), last: Sequence[str] = ()) -> None:
    ranks = {name: rank - len(first) for rank, name in enumerate(first)}
    ranks |= {name: rank + 1 for rank, name in enumerate(last)}
    if items(spec, key):
        spec[key] = sorted(spec[key], key=lambda container: ranks.get(container["name"], 0))
