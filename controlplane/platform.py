"""The platform of a control plane: the source of its resources, its signer, and the authenticator of its
callers.

The platform is a folder of YAML with a state folder, or a cluster (`cluster_platform`), where no key is
written to disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry

from controlplane.api.access import Authorizer
from controlplane.ca import state_files
from controlplane.ca.authentication import Authenticator
from controlplane.ca.authority import Authority
from controlplane.ca.signer import Signer
from controlplane.ca.signer_files import TRUST_BUNDLE_FILE, load_or_create_root, load_root, load_signer
from controlplane.ca.signer_follower import SignerFollower
from controlplane.ca.tokens import TokenVerifier, load_or_create_token_key
from controlplane.last_good.file import QUARANTINE_FILE, LastGoodFile
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.model.store import Store
from controlplane.settings import Settings
from controlplane.sources.files import FolderSource
from controlplane.sources.foreign_resources import ForeignResources
from controlplane.sources.source import Source

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from starlette.types import ASGIApp

_LOG = logging.getLogger(__name__)

# The interval between two reads of the signing certificate, its key and the roots.
FOLLOW_FILES_S: Final = 5.0
_EXPIRY_WARNING_S: Final = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """``source`` is not started yet. ``knows_all_workloads``: the source reports every workload, and a proxy
    that claims to be another one is rejected. ``on_build`` is called after each build of the store.
    ``webhooks`` is the application that an API server calls, ``unmeshed`` lists the pods that lack a
    sidecar, and ``debug_authorizer`` decides on callers of the debug API. ``background_tasks`` are more
    tasks, by name; each runs until it is cancelled."""

    source: Source
    authority: Authority
    authenticator: Authenticator
    unsupported: ForeignResources
    on_build: Callable[[MeshSnapshot, SnapshotChange], None]
    knows_all_workloads: bool = False
    webhooks: ASGIApp | None = None
    unmeshed: Callable[[], Sequence[DataclassInstance]] = tuple
    debug_authorizer: Authorizer | None = None
    background_tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)


@asynccontextmanager
async def folder_platform(
    settings: Settings, store: Store, on_change: Callable[[], None], registry: CollectorRegistry
) -> AsyncIterator[Platform]:
    """Publishes the roots in the state folder, where clients find them. Raises `SettingsError`."""
    token_key = load_or_create_token_key(settings.state_dir)
    authority = make_authority(_signer(settings), settings)
    last_good = LastGoodFile(settings.state_dir / QUARANTINE_FILE, store)
    unsupported = ForeignResources(registry)

    def publish() -> None:
        bundle = "".join(authority.trust_bundle_pem).encode("ascii")
        state_files.replace(settings.state_dir / TRUST_BUNDLE_FILE, bundle, mode=0o644)

    async def reload() -> Signer:
        return stored_signer(settings)

    publish()
    yield Platform(
        source=FolderSource(
            settings.folder, store, on_change, had=last_good.load(), on_unsupported=unsupported.update
        ),
        unsupported=unsupported,
        authority=authority,
        authenticator=TokenVerifier(token_key, settings.mesh.trust_domain),
        on_build=last_good.note_build,
        background_tasks={
            "signer": SignerFollower(authority, reload, publish, interval_s=FOLLOW_FILES_S).run
        },
    )


def make_authority(signer: Signer, settings: Settings) -> Authority:
    authority = Authority(
        signer,
        default_lifetime_s=settings.authority.default_lifetime_s,
        max_lifetime_s=settings.authority.max_lifetime_s,
    )
    expiries = (("root", authority.root_expires), ("signing", authority.signer_expires))
    for name, expires in expiries:
        if expires.timestamp() - time.time() < _EXPIRY_WARNING_S:
            _LOG.warning(
                "the %s certificate of the mesh expires at %s: replace it before then", name, expires
            )
    return authority


def stored_signer(settings: Settings) -> Signer:
    """The signer in the files as they are now. Raises `SettingsError`, also if our own root is missing."""
    given = settings.authority.signer
    if given is not None:
        return load_signer(given, time.time())
    return load_root(settings.state_dir, time.time(), settings.authority.roots)


def _signer(settings: Settings) -> Signer:
    given = settings.authority.signer
    if given is not None:
        return load_signer(given, time.time())
    return load_or_create_root(
        settings.state_dir, settings.mesh.trust_domain, time.time(), settings.authority.roots
    )
