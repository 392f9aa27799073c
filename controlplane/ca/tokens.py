"""Bearer tokens that prove a service account: signed by `outrigger token`, verified by the authority.

Their claims are those of a Kubernetes service account token, so that one reader understands both.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey

from controlplane.ca import state_files
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.errors import SettingsError, UnauthenticatedError
from protos.spiffe import SpiffeId

TOKEN_KEY_FILE: Final = "token-key.pem"
AUDIENCE: Final = "outrigger-ca"
ISSUER: Final = "outrigger"

Metadata = Iterable[tuple[str, str | bytes]]  # gRPC's: names are lower case

_BEARER: Final = "bearer "
# The verifier alone decides the algorithm; the token's header has no say (RFC 8725 3.1).
_ALGORITHMS: Final = ("ES256",)
_LEEWAY_S: Final = 10
_MAX_TOKEN_BYTES: Final = 16 * 1024
_MAX_VERIFIED_TOKENS: Final = 4096


def load_or_create_token_key(state_dir: Path) -> ECKey:
    """The key that both signs and verifies; made when the state folder has none. Raises `SettingsError`."""
    path = state_dir / TOKEN_KEY_FILE
    pem = state_files.load_or_create(path, lambda: private_key_pem(make_key()))
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: not a PEM EC private key: {error}") from error
    if key.curve_name != "P-256" or not key.is_private:
        raise SettingsError(f"{path}: ES256 needs a private key on P-256")
    return key


def create_token(key: ECKey, namespace: str, service_account: str, *, lifetime_s: float, now: float) -> str:
    """Raises ``ValueError`` for names that no SPIFFE id can hold."""
    SpiffeId("cluster.local", namespace, service_account)  # the names are checked, whatever the trust domain
    claims = {
        "iss": ISSUER,
        "sub": f"system:serviceaccount:{namespace}:{service_account}",
        "aud": [AUDIENCE],
        "iat": int(now),
        "exp": int(now + lifetime_s),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": service_account}},
    }
    return jwt.encode({"alg": "ES256", "kid": key.thumbprint()}, claims, key, algorithms=_ALGORITHMS)


class TokenVerifier:
    """Tells whom a token proves. Verified tokens are remembered until they expire, the least recently used
    forgotten first: every sidecar comes back with the same token at half life."""

    def __init__(self, key: ECKey, trust_domain: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key: Final = key
        self._trust_domain: Final = trust_domain
        self._clock: Final = clock
        # By digest: memory should not hold what could be replayed.
        self._verified: Final[OrderedDict[bytes, tuple[SpiffeId, float]]] = OrderedDict()

    def authenticate(self, metadata: Metadata) -> SpiffeId:
        """Whom a gRPC call's metadata proves. Raises `UnauthenticatedError`."""
        return self.verify(_bearer_token(metadata))

    def verify(self, token: str) -> SpiffeId:
        """Raises `UnauthenticatedError` with the reason; never repeats the token."""
        if len(token) > _MAX_TOKEN_BYTES:
            raise UnauthenticatedError(f"the token has {len(token)} characters, more than {_MAX_TOKEN_BYTES}")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._verified.get(digest)
        if known is not None and self._clock() < known[1] + _LEEWAY_S:
            self._verified.move_to_end(digest)
            return known[0]
        self._verified.pop(digest, None)
        claims = self._verified_claims(token)
        identity = self._identity(claims)
        self._verified[digest] = (identity, claims["exp"])
        if len(self._verified) > _MAX_VERIFIED_TOKENS:
            self._verified.popitem(last=False)
        return identity

    def _verified_claims(self, token: str) -> Mapping[str, Any]:
        required = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": ISSUER},
            sub={"essential": True},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            claims = jwt.decode(token, self._key, algorithms=_ALGORITHMS).claims
            required.validate(claims)
        except ExpiredTokenError as error:
            raise UnauthenticatedError("the token has expired") from error
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise UnauthenticatedError(f"the token proves nothing: {error}") from error
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> SpiffeId:
        """The subject and the ``kubernetes.io`` claim must tell the same."""
        match claims:
            case {
                "sub": str(subject),
                "kubernetes.io": {"namespace": str(namespace), "serviceaccount": {"name": str(account)}},
            } if subject == f"system:serviceaccount:{namespace}:{account}":
                try:
                    return SpiffeId(self._trust_domain, namespace, account)
                except ValueError as error:
                    raise UnauthenticatedError(f"the token proves nothing: {error}") from error
            case _:
                raise UnauthenticatedError(
                    "the token's sub and kubernetes.io claims do not name a service account"
                )


def _bearer_token(metadata: Metadata) -> str:
    """RFC 6750 2.1. Two tokens could mean two callers: refused."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise UnauthenticatedError(f"expected one authorization header with a token, found {len(values)}")
    value = values[0]
    if not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise UnauthenticatedError("the authorization header holds no bearer token")
    return value[len(_BEARER) :].strip()
