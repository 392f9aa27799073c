"""The signing service that a token is for, by its audience: a pod mounts the token of its own mesh."""

from __future__ import annotations

import base64
import json
from typing import Final

from sidecar.config.bootstrap import CaProvider

ISTIO_AUDIENCE: Final = "istio-ca"


def provider_for(token: str) -> CaProvider:
    """The token is not verified, which is for the service. One that is no JSON Web Token (RFC 7519) is for
    Outrigger's own service."""
    return CaProvider.ISTIOD if ISTIO_AUDIENCE in _audiences(token) else CaProvider.OUTRIGGER


def _audiences(token: str) -> tuple[object, ...]:
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):  # also invalid Base64, UTF-8 and JSON
        return ()
    audience = claims.get("aud") if isinstance(claims, dict) else None
    return tuple(audience) if isinstance(audience, list) else (audience,)
