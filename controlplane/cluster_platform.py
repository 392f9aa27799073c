"""The platform of a control plane in a Kubernetes cluster: everything comes from the API server.

It is not in `platform`, because importing the Kubernetes client takes long, and a folder does not need it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from controlplane.api.access_review import AccessReviewer
from controlplane.ca.authority import Authority
from controlplane.ca.root_certificates import RootCertificates
from controlplane.ca.signer import Signer
from controlplane.ca.signer_files import load_signer, read_pem
from controlplane.ca.signer_follower import SignerFollower
from controlplane.ca.signer_secrets import SignerSecrets
from controlplane.ca.token_review import TokenReviewer
from controlplane.kubernetes.api import ClientApi, KubernetesApi
from controlplane.kubernetes.backoff import until_answered
from controlplane.last_good.config_map import LastGoodConfigMap
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.model.store import Store
from controlplane.platform import FOLLOW_FILES_S, Platform, make_authority, stored_signer
from controlplane.settings import Settings
from controlplane.sources.foreign_kinds import ForeignKinds
from controlplane.sources.foreign_resources import ForeignResources
from controlplane.sources.kubernetes import KubernetesSource
from controlplane.status.elected import ElectedWriter
from controlplane.status.writer import StatusInputs, StatusTiming
from controlplane.webhooks.assembly import make_webhooks

# The interval between two reads of the signing Secret.
_FOLLOW_SECRETS_S: Final = 30.0


@asynccontextmanager
async def cluster_platform(
    settings: Settings,
    store: Store,
    on_change: Callable[[], None],
    inputs: StatusInputs,
    status_timing: StatusTiming,
    registry: CollectorRegistry,
) -> AsyncIterator[Platform]:
    """Waits for the API server for as long as it is unreachable: the signing key is there. Raises
    `SettingsError` for an invalid configuration, Secret or file."""
    api = await ClientApi.connect(settings.kubeconfig)
    try:
        signing = await _signing(api, settings)
        webhooks = make_webhooks(api, settings, store, signing.authority, registry)
        statuses = ElectedWriter(
            api, settings.system_namespace, inputs, registry=registry, timing=status_timing
        )
        last_good = LastGoodConfigMap(api, settings.system_namespace, store, on_change, registry=registry)

        def note_build(snapshot: MeshSnapshot, change: SnapshotChange) -> None:
            statuses.note_build(snapshot, change)
            last_good.note_build(snapshot, change)

        unsupported = ForeignResources(registry)
        foreign_kinds = ForeignKinds(
            api,
            api.metadata_only(),
            store,
            on_change,
            unsupported,
            on_metadata=lambda key, served, document: statuses.ledger.note_metadata(
                key, served.api_version, served.plural, document
            ),
        )
        yield Platform(
            unsupported=unsupported,
            source=KubernetesSource(
                api,
                store,
                on_change,
                dns_domain=settings.mesh.dns_domain,
                registry=registry,
                on_object=statuses.ledger.note,
                observers=webhooks.observers,
                more=[last_good.watch],
            ),
            authority=signing.authority,
            authenticator=TokenReviewer(api, settings.mesh.trust_domain),
            knows_all_workloads=True,
            on_build=note_build,
            webhooks=webhooks.app,
            unmeshed=webhooks.unmeshed,
            debug_authorizer=AccessReviewer(api),
            background_tasks={
                **webhooks.background_tasks,
                "root-certificates": signing.root_certificates.run,
                "last-good-versions": last_good.run,
                "statuses": statuses.run,
                "foreign-kinds": foreign_kinds.run,
                "signer": signing.follower(api, settings, webhooks.roots_changed).run,
            },
        )
    finally:
        await api.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signing:
    """The authority, and the publisher of its roots."""

    authority: Authority
    root_certificates: RootCertificates

    def follower(
        self, api: KubernetesApi, settings: Settings, on_change: Callable[[], None]
    ) -> SignerFollower:
        """The task that follows the authority's files or Secrets."""

        async def reload() -> Signer:
            if settings.authority.signer is not None:
                return stored_signer(settings)
            return await _secrets(api, settings).reload(self.authority.signer, time.time())

        def publish() -> None:
            self.root_certificates.use("".join(self.authority.trust_bundle_pem))
            on_change()

        return SignerFollower(self.authority, reload, publish, interval_s=_follow_s(settings))


async def _signing(api: KubernetesApi, settings: Settings) -> _Signing:
    authority = make_authority(await _signer(api, settings), settings)
    root_certificates = RootCertificates(api, "".join(authority.trust_bundle_pem))
    return _Signing(authority=authority, root_certificates=root_certificates)


async def _signer(api: KubernetesApi, settings: Settings) -> Signer:
    given = settings.authority.signer
    if given is not None:
        return load_signer(given, time.time())
    secrets = _secrets(api, settings)
    return await until_answered(
        lambda: secrets.load_or_create(time.time()), "the signing key is not available yet"
    )


def _secrets(api: KubernetesApi, settings: Settings) -> SignerSecrets:
    return SignerSecrets(
        api=api,
        namespace=settings.system_namespace,
        trust_domain=settings.mesh.trust_domain,
        more_roots=read_pem(settings.authority.roots),
    )


def _follow_s(settings: Settings) -> float:
    return FOLLOW_FILES_S if settings.authority.signer is not None else _FOLLOW_SECRETS_S
