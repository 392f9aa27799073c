"""Publishes the trust bundle as a ConfigMap in every namespace, so that each pod can mount it.

A sidecar needs the bundle before it has a certificate: it verifies the control plane before it sends its
token.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Final

from controlplane.errors import RefusedError, UnreachableError
from controlplane.kubernetes.api import Document, KubernetesApi
from controlplane.kubernetes.backoff import jittered_s
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing, name_of

_LOG = logging.getLogger(__name__)

# The counterpart of Istio's istio-ca-root-cert.
CONFIG_MAP: Final = "outrigger-ca-root-cert"
KEY: Final = "root-cert.pem"

_DEFAULT_TIMING: Final = Timing()
# While --root-cert is being changed, replicas have different bundles and overwrite each other's ConfigMaps.
# This pause limits how often they do so.
_PAUSE_S: Final = 1.0
# Another replica was faster: the object is deleted, or exists already. The watches report the new state.
_OVERTAKEN: Final = (404, 409)


class RootCertificates:
    """Creates and repairs the ConfigMaps. Several replicas can do so at once: a correct ConfigMap is not
    written again."""

    def __init__(
        self,
        api: KubernetesApi,
        bundle_pem: str,
        *,
        timing: Timing = _DEFAULT_TIMING,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._api: Final = api
        self._bundle_pem = bundle_pem
        self._pause_s: Final = pause_s
        self._backoff: Final = timing.backoff
        self._namespaces: Final[set[str]] = set()  # without those that are being deleted
        self._published: Final[dict[str, str]] = {}  # by namespace: the roots in its ConfigMap
        self._changed: Final = asyncio.Event()
        self._watches: Final = (
            ListWatch(api, "/api/v1/namespaces", self._take_namespaces, timing=timing),
            ListWatch(
                api,
                "/api/v1/configmaps",
                self._take_config_maps,
                timing=timing,
                selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
            ),
        )

    def use(self, bundle_pem: str) -> None:
        """Publishes another trust bundle from now on."""
        self._bundle_pem = bundle_pem
        self._changed.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run(), name=f"follow {watch.path} for root certificates")
            group.create_task(self._publish(), name="publish root certificates")

    def _take_namespaces(self, changes: Changes) -> None:
        self._namespaces.difference_update(name for _, name in changes.gone)
        for namespace in changes.present:
            _, name = name_of(namespace)
            if "deletionTimestamp" in namespace["metadata"]:
                self._namespaces.discard(name)  # nothing can be created there any more
            else:
                self._namespaces.add(name)
        self._changed.set()

    def _take_config_maps(self, changes: Changes) -> None:
        for namespace, _ in changes.gone:
            self._published.pop(namespace, None)
        for config_map in changes.present:
            namespace, _ = name_of(config_map)
            held = (config_map.get("data") or {}).get(KEY) or ""
            # Share one string between all namespaces with the current bundle.
            self._published[namespace] = self._bundle_pem if held == self._bundle_pem else held
        self._changed.set()

    async def _publish(self) -> None:
        for watch in self._watches:
            await watch.synced.wait()
        rng, failures, complaint = Random(), 0, ""
        while True:
            self._changed.clear()
            problem = await self._publish_everywhere()
            if problem and problem != complaint:
                _LOG.warning("the root certificates cannot be published: %s", problem)
            complaint = problem
            failures = failures + 1 if problem else 0
            await asyncio.sleep(max(self._backoff.delay_s(failures, rng), jittered_s(self._pause_s, rng)))
            if not problem:
                await self._changed.wait()

    async def _publish_everywhere(self) -> str:
        """Returns a description of the first problem, or an empty string."""
        problem = ""
        for namespace in sorted(self._namespaces):
            try:
                await self._publish_in(namespace)
            except UnreachableError as error:
                return str(error)
            except RefusedError as error:
                if error.busy:  # for the other namespaces, too
                    return str(error)
                if error.status not in _OVERTAKEN:
                    problem = problem or f"namespace {namespace}: {error}"
        return problem

    async def _publish_in(self, namespace: str) -> None:
        """Writes the ConfigMap of one namespace if needed. The watch observes the result, so this does not
        record it."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        held = self._published.get(namespace)
        if held is None:
            await self._api.create(path, self._config_map())
        elif held != self._bundle_pem:
            await self._api.merge(f"{path}/{CONFIG_MAP}", {"data": {KEY: self._bundle_pem}})

    def _config_map(self) -> Document:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "labels": {"app.kubernetes.io/part-of": "outrigger"}},
            "data": {KEY: self._bundle_pem},
        }
