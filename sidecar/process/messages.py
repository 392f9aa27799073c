"""The messages between the supervisor and a worker in another process. All are pickled.

The supervisor sends `Start`, then any of the others. The worker handles one message after the other, and
sends one `WorkerAnswer` for each `Apply`, `GoBack`, `LookUp` and `MethodCall`, in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.errors import ConfigError
from sidecar.listener.bound_addresses import BindKey
from sidecar.process.worker import WorkerConfig
from sidecar.upstream.outlier_detection import HostEjection

# From the master to the supervisor.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """Comes with the supervisor's end of the worker's channel. ``number`` is never used again; ``slot`` is
    the place that the worker takes among N, from 0."""

    number: int
    slot: int
    pid: int


# From the supervisor to a worker.


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    number: int
    config: WorkerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Some resources of a `Snapshot`, by name, which a later message uses. ``kind`` is the field's name."""

    kind: str
    resources: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """The next snapshot: the one before with the ``changed`` resources, by kind. ``names`` are all names of
    the kinds in which names were added, removed or moved."""

    changed: Mapping[str, tuple[str, ...]]
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """Another worker refused the last snapshot: the one before comes back in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """`Worker.resolve_first`, with the clusters of these names. Other clusters that are not in force are
    forgotten."""

    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """Comes with a bound socket, or says why the address could not be bound."""

    key: BindKey
    error: ConfigError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCall:
    """Calls a method of `Worker`."""

    method: str
    arguments: tuple[object, ...] = ()


# From a worker to the supervisor.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAnswer:
    """The result of a method, or the exception that it raised."""

    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """A cluster that waited for its first look-ups may be ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejected:
    """Outlier detection has ejected a host, or has taken it back: the other workers follow."""

    ejection: HostEjection


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Sent before an answer when it has changed: the names of the listeners that warm, and the addresses
    whose sockets listeners use or will use."""

    warming: frozenset[str]
    addresses: frozenset[BindKey]
