"""Pods of a mesh that an istiod controls, with the sidecar as `docs/istio.md` has it or with an Envoy."""

from __future__ import annotations

import json
from typing import Final

import yaml

from controlplane.injection.config import InjectionConfig
from controlplane.model.mesh_config import MeshConfig
from outrigger.injected_documents import Injector
from tests.support.kubernetes_api import Resource

SYSTEM_NAMESPACE: Final = "istio-system"
SDS_IMAGE: Final = "istio-sds"
ENVOY: Final = {"outrigger.dev/proxy": "envoy"}
_SDS_PORT: Final = 15099


def istiod_name(revision: str) -> str:
    return "istiod" if revision == "default" else f"istiod-{revision}"


def istio_token(path: str) -> Resource:
    """The source of a projected volume."""
    return {"serviceAccountToken": {"audience": "istio-ca", "path": path, "expirationSeconds": 43200}}


def under_istiod(document: Resource, interception: str = "REDIRECT") -> Resource:
    """A Deployment with the sidecar, or if its pods have the annotations `ENVOY`, with a stock Envoy. Another
    object stays as it is."""
    if document["kind"] != "Deployment":
        return document
    annotations = document["spec"]["template"]["metadata"].setdefault("annotations", {})
    annotations["sidecar.istio.io/interceptionMode"] = interception
    envoy = ENVOY.items() <= annotations.items()
    injected = _injector("stock" if envoy else "default").inject(yaml.safe_dump(document), "deployment")
    deployment: Resource = yaml.safe_load(injected)
    spec = deployment["spec"]["template"]["spec"]
    for volume in spec["volumes"]:
        if volume["name"] == "outrigger-token":
            volume["projected"]["sources"] = [istio_token("outrigger-token")]
        if volume["name"] == "outrigger-ca":
            volume["configMap"]["name"] = "istio-ca-root-cert"
    if envoy:
        _add_sds(spec["initContainers"])
    return deployment


def _injector(revision: str) -> Injector:
    address = f"{istiod_name(revision)}.{SYSTEM_NAMESPACE}.svc:15012"
    values = {"controlPlaneAddress": address, "systemNamespace": SYSTEM_NAMESPACE}
    return Injector(
        config=InjectionConfig.model_validate({"values": values}),
        mesh_config=MeshConfig(),
        namespace="default",
        revision=revision,
        native_sidecars=True,
        warn=lambda text: None,
    )


def _add_sds(containers: list[Resource]) -> None:
    """A container for the Envoy, which istiod tells to ask Istio's agent for the certificate."""
    agent = next(each for each in containers if each["name"] == "outrigger-agent")
    (folder,) = (
        argument.partition("=")[2] for argument in agent["args"] if argument.startswith("--identity-dir=")
    )
    envoy = containers.pop()
    for variable in envoy["env"]:
        if variable["name"] == "OUTRIGGER_CONFIG_YAML":
            document = json.loads(variable["value"])
            document["static_resources"]["clusters"] = [_sds_cluster()]
            variable["value"] = json.dumps(document)
    sds = {
        "name": "sds",
        "image": SDS_IMAGE,
        "args": [str(_SDS_PORT), folder],
        "restartPolicy": "Always",
        "securityContext": agent["securityContext"],
        "volumeMounts": agent["volumeMounts"],
    }
    containers += [sds, envoy]


def _sds_cluster() -> Resource:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": _SDS_PORT}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": "sds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "sds-grpc", "endpoints": endpoints},
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
