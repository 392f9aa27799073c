"""Bearer tokens that prove a service account: signed by `outrigger token`, verified by the authority.

The claims are those of a Kubernetes service account token, so the same code reads both.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey

from controlplane.ca import state_files
from controlplane.ca.authentication import AUDIENCE, Metadata, bearer_token, service_account_identity
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.errors import SettingsError, UnauthenticatedError
from controlplane.model.proxy import Caller
from protos.spiffe import SpiffeId

TOKEN_KEY_FILE: Final = "token-key.pem"
ISSUER: Final = "outrigger"

# The verifier chooses the algorithm and ignores the one in the token's header (RFC 8725 section 3.1).
_ALGORITHMS: Final = ("ES256",)
_LEEWAY_S: Final = 10
_MAX_VERIFIED_TOKENS: Final = 4096


def load_or_create_token_key(state_dir: Path) -> ECKey:
    """Returns the key that signs and verifies tokens. Generates it when the state folder has none. Raises
    `SettingsError`."""
    path = state_dir / TOKEN_KEY_FILE
    pem = state_files.load_or_create(path, lambda: private_key_pem(make_key()))
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: not a PEM EC private key: {error}") from error
    if key.curve_name != "P-256" or not key.is_private:
        raise SettingsError(f"{path}: ES256 requires a private key on P-256")
    return key


def create_token(key: ECKey, namespace: str, service_account: str, *, lifetime_s: float, now: float) -> str:
    """Returns a signed token. ``now`` is in seconds since the epoch. Raises ``ValueError`` for names that are
    invalid in a SPIFFE id."""
    SpiffeId(
        "cluster.local", namespace, service_account
    )  # checks the names; the trust domain does not matter
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
    """An `Authenticator` for the tokens of `create_token`. It caches verified tokens until they expire (least
    recently used), because a sidecar sends the same token at each renewal."""

    def __init__(self, key: ECKey, trust_domain: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key: Final = key
        self._trust_domain: Final = trust_domain
        self._clock: Final = clock
        # Keyed by digest, so that memory holds no usable tokens.
        self._verified: Final[OrderedDict[bytes, tuple[SpiffeId, float]]] = OrderedDict()

    async def authenticate(self, metadata: Metadata) -> Caller:
        """Raises `UnauthenticatedError`."""
        return Caller(identity=self.verify(bearer_token(metadata)))

    def verify(self, token: str) -> SpiffeId:
        """Raises `UnauthenticatedError` with the reason. The text never contains the token."""
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
            raise UnauthenticatedError(f"the token is invalid: {error}") from error
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> SpiffeId:
        """The ``sub`` and ``kubernetes.io`` claims must name the same service account."""
        identity = service_account_identity(str(claims["sub"]), self._trust_domain)
        match claims.get("kubernetes.io"):
            case {"namespace": identity.namespace, "serviceaccount": {"name": identity.service_account}}:
                return identity
            case _:
                raise UnauthenticatedError(
                    "the token's sub and kubernetes.io claims do not name the same service account"
                )
