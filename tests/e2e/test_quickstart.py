"""docs/quickstart.md, block by block, in an empty cluster: only the cluster itself is made differently."""

from __future__ import annotations

import re
import subprocess
import sys
from ast import literal_eval
from collections import Counter
from pathlib import Path

import pytest

from outrigger.demo.figures import check_shares
from tests.support.injected_mesh import empty_cluster
from tests.support.kubectl import kubectl_environment

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CREATES_THE_CLUSTER = "A cluster"  # the section whose blocks are replaced
ENDED = "-- end of a block --"


def blocks() -> list[str]:
    sections = re.split(r"^## ", (ROOT / "docs" / "quickstart.md").read_text(), flags=re.MULTILINE)
    return [
        block
        for section in sections
        if not section.startswith(f"{CREATES_THE_CLUSTER}\n")
        for block in BLOCK.findall(section)
    ]


@pytest.mark.timeout(400)
def test_quickstart() -> None:
    with empty_cluster() as mesh:
        script = "".join(f"{block}echo '{ENDED}'\n" for block in blocks())
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**kubectl_environment(mesh.cluster.kubeconfig), "PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    output = done.stdout
    assert done.returncode == 0, output
    outputs = dict(zip(blocks(), output.split(f"{ENDED}\n"), strict=False))
    versions = Counter(literal_eval(find(r"Counter\((.*)\)", output)))
    assert check_shares(versions, {"v1": 90, "v2": 10}).ok, versions
    pods = output_of(outputs, "kubectl get pods")
    assert len(re.findall(r" 2/2 +Running ", pods)) == 6, pods
    assert 'unknown field "spec.http[0].rout"' in output_of(outputs, "reviews-broken")
    assert 'connection_security_policy="mutual_tls"' in output_of(outputs, "istio_requests_total")


def output_of(outputs: dict[str, str], command: str) -> str:
    (output,) = (output for block, output in outputs.items() if command in block)
    return output


def find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]
