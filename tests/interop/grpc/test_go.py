"""The standard cases by grpc-go's client: another implementation finds other faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.grpc.conftest import Hop
from tests.support.grpc_interop import CASES, run_case


@pytest.mark.parametrize("case", CASES)
def test_case(go_program: Path, hop: Hop, case: str) -> None:
    assert run_case(go_program, hop.port, case) == ""
