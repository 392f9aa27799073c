"""Authentication of a caller by the bearer token in a gRPC call's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from controlplane.errors import UnauthenticatedError
from controlplane.model.proxy import Caller
from protos.spiffe import SpiffeId

# The audience of a token for this authority. A server that receives such a token cannot use it elsewhere, and
# a token for another audience is rejected here.
AUDIENCE: Final = "outrigger-ca"

Metadata = Iterable[tuple[str, str | bytes]]  # as gRPC passes it: names are lower case

_BEARER: Final = "bearer "
_MAX_TOKEN_BYTES: Final = 16 * 1024


class Authenticator(Protocol):
    async def authenticate(self, metadata: Metadata) -> Caller:
        """Returns the caller that a gRPC call's metadata authenticates. Raises `UnauthenticatedError` when
        the token is missing or invalid, and `AuthorityUnavailableError` when it cannot be verified now. The
        error texts never contain the token."""
        ...


def bearer_token(metadata: Metadata) -> str:
    """Returns the bearer token (RFC 6750 section 2.1). Two tokens could name two callers, so they are
    rejected. Raises `UnauthenticatedError`."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise UnauthenticatedError(f"expected one authorization header with a token, found {len(values)}")
    value = values[0]
    if not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise UnauthenticatedError("the authorization header does not contain a bearer token")
    token = value[len(_BEARER) :].strip()
    if not token:
        raise UnauthenticatedError("the bearer token is empty")
    if len(token) > _MAX_TOKEN_BYTES:
        raise UnauthenticatedError(f"the token has {len(token)} characters, more than {_MAX_TOKEN_BYTES}")
    return token


def service_account_identity(user: str, trust_domain: str) -> SpiffeId:
    """Returns the SPIFFE id of a service account. ``user`` is a Kubernetes user name:
    ``system:serviceaccount:<namespace>:<name>``. Raises `UnauthenticatedError` for any other user."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name]:
            try:
                return SpiffeId(trust_domain, namespace, name)
            except ValueError as error:
                raise UnauthenticatedError(f"the token is invalid: {error}") from error
        case _:
            raise UnauthenticatedError(f"the token belongs to {user!r}, which is not a service account")
