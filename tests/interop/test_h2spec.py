"""h2spec, the conformance tests of HTTP/2, also its strict ones, against a listener."""

from __future__ import annotations

import asyncio
import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.tls import DownstreamTls
from tests.support.clusters import static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.flaky_upstream import flaky_upstream
from tests.support.h2spec import H2SPEC
from tests.support.identities import REVIEWS, TestTrustDomain, mesh_parameters
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

CASES = 146
MANAGER = HttpConnectionManager(
    stat_prefix=NAME,
    codec_type=CodecType.HTTP2,
    http_filters=(ROUTER,),
    route_config=configuration(virtual_host(route(prefix(), to("up")))),
)


@pytest.fixture(scope="module")
def h2spec() -> Path:
    if not H2SPEC.path.is_file():
        pytest.skip("h2spec is not built: `make cluster-binary` builds it")
    return H2SPEC.path


@pytest.mark.parametrize("transport", ["h2c", "tls"])
async def test_every_case(h2spec: Path, tmp_path: Path, transport: str) -> None:
    trust_domain = TestTrustDomain(REVIEWS)
    alpn = dataclasses.replace(mesh_parameters(), alpn_protocols=("h2", "http/1.1"))
    tls = DownstreamTls(parameters=alpn) if transport == "tls" else None
    report = tmp_path / "report.xml"
    async with (
        flaky_upstream("a body of some length") as upstream,
        running_stack(
            MANAGER, static_cluster(upstream.endpoint), tls=tls, svid=trust_domain.svid().pem()
        ) as stack,
    ):
        arguments = [str(stack.port), "/", transport, str(report), "2000"]
        process = await asyncio.create_subprocess_exec(h2spec, *arguments, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        await stack.settle()
    cases = ET.parse(report).getroot().findall(".//testcase")
    failed = {
        f"{case.get('package')} {case.get('classname')}": "".join(case.itertext())
        for case in cases
        if case.find("failure") is not None
        or case.find("error") is not None
        or case.find("skipped") is not None
    }
    assert failed == {}
    assert len(cases) == CASES
