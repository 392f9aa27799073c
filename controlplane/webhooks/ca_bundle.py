"""Keeps the ``caBundle`` of our webhook configurations right: an API server verifies the certificate of the
webhooks by it.

Every replica does this for itself. It adds its own roots at once where they are missing, and removes others
only after a while: while the signing certificate is being replaced, the replicas have different roots, and
the API server must accept all of them.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import CollectorRegistry

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kubernetes.api import Document, Reader
from controlplane.kubernetes.backoff import jittered_s
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing
from controlplane.webhooks.metrics import PatchMetrics

_LOG = logging.getLogger(__name__)

_GROUP: Final = "/apis/admissionregistration.k8s.io/v1"
KINDS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")

_DEFAULT_TIMING: Final = Timing()
# The shortest time between two rounds of patches, so that a tool that always restores its own value does not
# cause a flood.
_PAUSE_S: Final = 1.0
# Four times the interval at which replicas read the signing Secret.
_KEEP_OTHERS_S: Final = 120.0
_MOST_OTHERS: Final = 20
# The configuration was deleted, or another replica was faster: a test of the patch has failed.
_OVERTAKEN: Final = (404, 409, 422)

Bundle = tuple[str, ...]  # PEM of each root


class WebhookApi(Reader, Protocol):
    async def json_patch(self, path: str, operations: Sequence[Document]) -> Document: ...


@dataclass(frozen=True, slots=True)
class _Hook:
    """A webhook of a configuration: its place in the list, and its bundle."""

    index: int
    name: str
    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class _Configuration:
    path: str
    version: str
    hooks: tuple[_Hook, ...]


def wanted_bundle(found: Bundle, own: Bundle, *, keep_others: bool) -> Bundle:
    """The bundle that must be written; ``found`` if it is right. The order does not matter."""
    others = [each for each in found if each not in own] if keep_others else []
    wanted = (*own, *others[:_MOST_OTHERS])
    return found if set(found) == set(wanted) else wanted


class CaBundles:
    """Follows the configurations that carry our label and the revision's, and patches them. ``roots`` returns
    the trust bundle, as PEM of each root; `roots_changed` must be called after a change."""

    def __init__(
        self,
        api: WebhookApi,
        roots: Callable[[], Bundle],
        revision: str,
        *,
        registry: CollectorRegistry,
        timing: Timing = _DEFAULT_TIMING,
        pause_s: float = _PAUSE_S,
        keep_others_s: float = _KEEP_OTHERS_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api: Final = api
        self._roots: Final = roots
        self._metrics: Final = PatchMetrics(registry)
        self._backoff: Final = timing.backoff
        self._pause_s: Final = pause_s
        self._keep_others_s: Final = keep_others_s
        self._clock: Final = clock
        self._configurations: Final[dict[tuple[str, str], _Configuration]] = {}
        self._others_since: dict[tuple[str, str], float] = {}  # by path and webhook
        self._overtaken: Final[dict[str, str]] = {}  # by path: the version that could not be patched
        self._changed: Final = asyncio.Event()
        # Istio's configurations have the second label too.
        ours = {"labelSelector": f"app.kubernetes.io/part-of=outrigger,istio.io/rev={revision}"}
        self._watches: Final = [
            ListWatch(api, f"{_GROUP}/{kind}", partial(self._take, kind), timing=timing, selector=ours)
            for kind in KINDS
        ]

    def roots_changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run(), name=f"follow {watch.path}")
            group.create_task(self._patch(), name="patch the bundles of webhooks")

    def _take(self, kind: str, changes: Changes) -> None:
        for _, name in changes.gone:
            gone = self._configurations.pop((kind, name), None)
            if gone is not None:
                self._overtaken.pop(gone.path, None)
        for document in changes.present:
            metadata = document["metadata"]
            path = f"{_GROUP}/{kind}/{metadata['name']}"
            self._configurations[kind, metadata["name"]] = _Configuration(
                path=path, version=metadata["resourceVersion"], hooks=tuple(_hooks(document))
            )
        self._changed.set()

    async def _patch(self) -> None:
        rng, failures, complaint = Random(), 0, ""
        while True:
            self._changed.clear()
            problem = await self._patch_all()
            if problem and problem != complaint:
                _LOG.warning("the caBundle of a webhook configuration cannot be patched: %s", problem)
            complaint = problem
            failures = failures + 1 if problem else 0
            await asyncio.sleep(max(self._backoff.delay_s(failures, rng), jittered_s(self._pause_s, rng)))
            if not problem:
                await self._until_due()

    async def _until_due(self) -> None:
        """Waits for a change, or until the roots of others may be removed."""
        due = min(self._others_since.values(), default=None)
        wait_s = None if due is None else max(0.0, due + self._keep_others_s - self._clock())
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _patch_all(self) -> str:
        """Returns a description of the first problem, or an empty string."""
        problem, own = "", self._roots()
        seen = self._others_since
        self._others_since = {}
        for configuration in list(self._configurations.values()):
            operations = list(self._operations(configuration, own, seen))
            if not operations:
                continue
            name = configuration.path.rpartition("/")[2]
            self._metrics.attempts.labels(name=name).inc()
            try:
                await self._api.json_patch(
                    configuration.path,
                    [_is("/metadata/resourceVersion", configuration.version), *operations],
                )
            except KubernetesError as error:
                if self._is_overtaken(configuration, error):
                    continue
                self._metrics.failures.labels(name=name).inc()
                problem = problem or f"{name}: {error}"
            else:
                _LOG.info("the caBundle of %s has our roots now", name)
        return problem

    def _is_overtaken(self, configuration: _Configuration, error: KubernetesError) -> bool:
        """Whether the error probably means that the configuration has changed. If so, the watch is about to
        report the change; otherwise the next patch fails for the same version."""
        if not isinstance(error, RefusedError) or error.status not in _OVERTAKEN:
            return False
        if self._overtaken.get(configuration.path) == configuration.version:
            return False
        self._overtaken[configuration.path] = configuration.version
        self._changed.set()
        return True

    def _operations(
        self, configuration: _Configuration, own: Bundle, seen: dict[tuple[str, str], float]
    ) -> Iterator[Document]:
        now = self._clock()
        for hook in configuration.hooks:
            others_since = now
            if not set(hook.bundle) <= set(own):
                key = configuration.path, hook.name
                others_since = self._others_since[key] = seen.get(key, now)
            keep_others = now - others_since < self._keep_others_s
            wanted = wanted_bundle(hook.bundle, own, keep_others=keep_others)
            if wanted is not hook.bundle:
                at = f"/webhooks/{hook.index}"
                value = base64.b64encode("".join(wanted).encode()).decode("ascii")
                yield _is(f"{at}/name", hook.name)
                yield {"op": "add", "path": f"{at}/clientConfig/caBundle", "value": value}


def _hooks(document: Document) -> Iterator[_Hook]:
    for index, webhook in enumerate(document.get("webhooks") or ()):
        yield _Hook(index, webhook["name"], parse_bundle(webhook["clientConfig"].get("caBundle")))


def parse_bundle(encoded: Any) -> Bundle:
    """The roots of a ``caBundle``; none if it is missing or invalid."""
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(encoded or "", validate=True))
    except (ValueError, TypeError):
        return ()
    pems = (each.public_bytes(Encoding.PEM).decode("ascii") for each in found)
    return tuple(dict.fromkeys(pems))


def _is(path: str, value: str) -> Document:
    """An operation of a JSON patch that fails if the value differs (RFC 6902 section 4.6)."""
    return {"op": "test", "path": path, "value": value}
