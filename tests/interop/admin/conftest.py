"""One pair of proxies, which have answered the same requests, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.interop.admin.pair import Pair, running_pair, send_requests


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with running_pair(tmp_path_factory.mktemp("admin")) as pair, ExitStack() as stack:
        for proxy in (pair.envoy, pair.sidecar):
            send_requests(proxy, stack)
        yield pair
