"""Who calls: a bearer token in a gRPC call's metadata, and the workload that it proves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from controlplane.errors import UnauthenticatedError
from controlplane.model.proxy import Caller
from protos.spiffe import SpiffeId

# A token for us is for nobody else: who is shown it cannot use it elsewhere, and a token for elsewhere is
# worth nothing here.
AUDIENCE: Final = "outrigger-ca"

Metadata = Iterable[tuple[str, str | bytes]]  # gRPC's: names are lower case

_BEARER: Final = "bearer "
_MAX_TOKEN_BYTES: Final = 16 * 1024


class Authenticator(Protocol):
    async def authenticate(self, metadata: Metadata) -> Caller:
        """Whom a gRPC call's metadata proves. Raises `UnauthenticatedError` where it proves nobody, and
        `AuthorityUnavailableError` where that cannot be told now. Neither repeats the token."""
        ...


def bearer_token(metadata: Metadata) -> str:
    """RFC 6750 2.1. Two tokens could mean two callers: refused. Raises `UnauthenticatedError`."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise UnauthenticatedError(f"expected one authorization header with a token, found {len(values)}")
    value = values[0]
    if not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise UnauthenticatedError("the authorization header holds no bearer token")
    token = value[len(_BEARER) :].strip()
    if not token:
        raise UnauthenticatedError("the bearer token is empty")
    if len(token) > _MAX_TOKEN_BYTES:
        raise UnauthenticatedError(f"the token has {len(token)} characters, more than {_MAX_TOKEN_BYTES}")
    return token


def service_account_identity(user: str, trust_domain: str) -> SpiffeId:
    """``user`` is as Kubernetes names service accounts: ``system:serviceaccount:<namespace>:<name>``. Raises
    `UnauthenticatedError` for any other."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name]:
            try:
                return SpiffeId(trust_domain, namespace, name)
            except ValueError as error:
                raise UnauthenticatedError(f"the token proves nothing: {error}") from error
        case _:
            raise UnauthenticatedError(f"the token is not a service account's, but that of {user!r}")
