from __future__ import annotations

import grpc
import pytest

from controlplane.errors import (
    AuthorityError,
    AuthorityUnavailableError,
    PermissionDeniedError,
    ProxyError,
    SettingsError,
    UnknownWorkloadError,
)
from controlplane.grpc_status import status_of


class _RarelySeenError(PermissionDeniedError):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProxyError(), grpc.StatusCode.INVALID_ARGUMENT),
        (UnknownWorkloadError(), grpc.StatusCode.UNAVAILABLE),
        (AuthorityError(), grpc.StatusCode.UNAUTHENTICATED),
        (AuthorityUnavailableError(), grpc.StatusCode.UNAVAILABLE),
        (_RarelySeenError(), grpc.StatusCode.PERMISSION_DENIED),
        (SettingsError(), grpc.StatusCode.INTERNAL),
        (KeyError(), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: getattr(value, "name", type(value).__name__),
)
def test_the_nearest_type_decides(error: Exception, expected: grpc.StatusCode) -> None:
    assert status_of(error) is expected
