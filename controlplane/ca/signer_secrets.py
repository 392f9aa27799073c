"""The signing certificate and its key from Kubernetes Secrets, shared by all replicas."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.ca.signer import Pem, Signer, SignerPems, make_root, own_root, parse_signer
from controlplane.errors import RefusedError, SettingsError
from controlplane.kubernetes.api import Document, KubernetesApi

# The Secret of Istio's "plug in CA certificates": the operator's signing certificate.
PLUGGED_IN_SECRET: Final = "cacerts"
# The generated root, the counterpart of istiod's istio-ca-secret.
OWN_SECRET: Final = "outrigger-ca-secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The keys of a Secret that hold the parts of a signer."""

    certificate: str
    key: str
    chain: str
    roots: str


_ISTIO: Final = _Keys(
    certificate="ca-cert.pem", key="ca-key.pem", chain="cert-chain.pem", roots="root-cert.pem"
)
# A Secret of type kubernetes.io/tls, which istiod accepts too: its tls.crt holds the certificate and the
# chain.
_TLS: Final = _Keys(certificate="tls.crt", key="tls.key", chain="tls.crt", roots="ca.crt")

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSecrets:
    """The Secrets of ``namespace``. ``more_roots`` are trusted in addition to the roots in the Secrets."""

    api: KubernetesApi
    namespace: str
    trust_domain: str
    more_roots: Pem | None = None

    async def load_or_create(self, now: float) -> Signer:
        """Returns the operator's signer, or else the generated root. Generates the root when the Secret is
        missing; of replicas that start at the same time, one creates the Secret and all of them read it.

        Raises `SettingsError` for a Secret that cannot sign. Raises `UnreachableError` and `RefusedError`,
        after which the caller can try again.
        """
        plugged_in = await self._find(PLUGGED_IN_SECRET)
        if plugged_in is not None:
            return parse_signer(self._plugged_in(plugged_in), now)
        return self._own_root(await self._find(OWN_SECRET) or await self._create(now), now)

    async def reload(self, current: Signer, now: float) -> Signer:
        """Returns the stored signer. Returns ``current`` when the Secret was deleted: it may be about to be
        replaced. Does not create a Secret; raises the errors of `load_or_create`."""
        plugged_in = await self._find(PLUGGED_IN_SECRET)
        if plugged_in is not None:
            return parse_signer(self._plugged_in(plugged_in), now)
        own = await self._find(OWN_SECRET)
        if own is None:
            return current
        signer = self._own_root(own, now)
        return signer if signer.certificate == current.certificate else current

    def _own_root(self, own: Document, now: float) -> Signer:
        certificate, key = self._pem(own, _ISTIO.certificate), self._pem(own, _ISTIO.key)
        return own_root(certificate, key, now, self.more_roots)

    async def _find(self, name: str) -> Document | None:
        try:
            return await self.api.get(f"{self._path}/{name}")
        except RefusedError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def _create(self, now: float) -> Document:
        certificate, key = make_root(self.trust_domain, now)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": OWN_SECRET, "labels": {"app.kubernetes.io/part-of": "outrigger"}},
            "type": "istio.io/ca-root",
            "data": {
                _ISTIO.certificate: base64.b64encode(certificate).decode("ascii"),
                _ISTIO.key: base64.b64encode(key).decode("ascii"),
            },
        }
        try:
            return await self.api.create(self._path, secret)
        except RefusedError as error:
            if error.status == _CONFLICT:  # another replica was faster
                return await self.api.get(f"{self._path}/{OWN_SECRET}")
            raise

    def _plugged_in(self, secret: Document) -> SignerPems:
        data = _data(secret)
        keys = _TLS if _ISTIO.certificate not in data and _TLS.certificate in data else _ISTIO
        return SignerPems(
            certificate=self._pem(secret, keys.certificate),
            key=self._pem(secret, keys.key),
            chain=self._optional_pem(secret, keys.chain),
            roots=self._optional_pem(secret, keys.roots),
            more_roots=self.more_roots,
        )

    def _optional_pem(self, secret: Document, key: str) -> Pem | None:
        return self._pem(secret, key) if key in _data(secret) else None

    def _pem(self, secret: Document, key: str) -> Pem:
        where = f"Secret {self.namespace}/{secret['metadata']['name']}"
        if key not in _data(secret):
            raise SettingsError(f"{where}: the key {key} is missing")
        try:
            content = base64.b64decode(_data(secret)[key], validate=True)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{where}: {key} is not base64: {error}") from error
        return Pem(content, f"{where}, {key}")

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"


def _data(secret: Document) -> Mapping[str, Any]:
    """The data of a Secret. The field is null or missing in an empty Secret."""
    return secret.get("data") or {}
