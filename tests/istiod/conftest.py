"""One mesh of a real istiod for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.istiod_binary import ISTIOD
from tests.support.istiod_mesh import IstiodMesh, istiod_mesh


@pytest.fixture(scope="session")
def istiod() -> Iterator[IstiodMesh]:
    if not ISTIOD.path.is_file():
        reason = "istiod is not built: `make cluster-binary` builds it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with istiod_mesh() as mesh:
        yield mesh
