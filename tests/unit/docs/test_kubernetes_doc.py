"""docs/kubernetes.md shows a Sidecar for a pod without interception, which the control plane accepts."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from controlplane.kinds.registry import KINDS

DOC = Path(__file__).resolve().parents[3] / "docs" / "kubernetes.md"


def test_the_sidecar_resource_is_valid() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    (ingress,) = KINDS.parse(yaml.safe_load(shown)).spec.ingress
    assert ingress.default_endpoint == "127.0.0.1:9081"
