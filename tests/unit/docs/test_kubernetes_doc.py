"""docs/kubernetes.md contains the Sidecar with which Bookinfo is tested in a cluster without interception."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.support.bookinfo_pods import sidecar_resource

DOC = Path(__file__).resolve().parents[3] / "docs" / "kubernetes.md"


def test_the_sidecar_resource_is_the_tested_one() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert yaml.safe_load(shown) == sidecar_resource()
