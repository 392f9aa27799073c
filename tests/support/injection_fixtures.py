"""The fixtures of the injector: `tests/golden/injection/NAME.yaml`, with the result `NAME.injected.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.injection.config import InjectionConfig
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy_config import ProxyConfig
from outrigger.injected_documents import Injector

FOLDER: Final = Path(__file__).parents[1] / "golden" / "injection"
_NETWORK_PLUGIN: Final = "values: {init: {cni: true}}"
_TEMPLATES: Final = """
templates:
  debug:
    metadata: {labels: {debug: "true"}}
    spec:
      containers: [{name: shell, image: example.com/shell:1, env: [{name: TARGET, value: localhost}]}]
      volumes: [{name: debug, emptyDir: {}}]
  application: |
    spec:
      containers:
        - {name: hello, env: [{name: MODE, value: template}, {name: ADDED, value: template}]}
aliases: {both: [sidecar, debug]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The configuration with which a fixture is injected."""

    native_sidecars: bool = True
    config: str = ""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    revision: str = "default"

    def injector(self, warnings: list[str] | None = None) -> Injector:
        return Injector(
            config=InjectionConfig.parse(self.config),
            mesh_config=self.mesh,
            namespace="shop",
            revision=self.revision,
            native_sidecars=self.native_sidecars,
            warn=(warnings if warnings is not None else []).append,
        )


_OLD: Final = Cluster(native_sidecars=False)
_HOLD: Final = ProxyConfig(hold_application_until_proxy_starts=True)

# The fixtures that need another configuration than the default.
_CLUSTERS: Final = {
    "always-selector": Cluster(
        config="{policy: disabled, alwaysInjectSelector: [{matchLabels: {app: always}}]}"
    ),
    "custom-template": Cluster(config=_TEMPLATES),
    "custom-template-of-application": Cluster(
        config=f"{_TEMPLATES}\ndefaultTemplates: [sidecar, application]"
    ),
    "default-templates": Cluster(config=f"{_TEMPLATES}\ndefaultTemplates: [both]"),
    "hello-not-native": _OLD,
    "hold-application": _OLD,
    "hold-application-of-mesh": Cluster(native_sidecars=False, mesh=MeshConfig(default_config=_HOLD)),
    "image-pull-policy": Cluster(
        config="values: {hub: registry.example.com, tag: v2, imagePullPolicy: Always}"
    ),
    "image-pull-secrets": Cluster(config="values: {imagePullSecrets: [registry, second]}"),
    "injected-annotations": Cluster(config="injectedAnnotations: {example.com/injected: 'yes'}"),
    "multi-init-not-native": _OLD,
    "native-opt-in": _OLD,
    "network-plugin": Cluster(config=_NETWORK_PLUGIN),
    "network-plugin-not-native": Cluster(native_sidecars=False, config=_NETWORK_PLUGIN),
    "never-selector": Cluster(
        config="neverInjectSelector: [{matchExpressions: [{key: tier, operator: In, values: [batch]}]}]"
    ),
    "override-not-native": _OLD,
    "override-run-as-user-network-plugin": Cluster(config=_NETWORK_PLUGIN),
    "policy-disabled": Cluster(config="policy: disabled"),
    "policy-disabled-but-asked": Cluster(config="policy: disabled"),
    "privileged": Cluster(config="values: {proxy: {privileged: true}}"),
    "probes-hooks-not-native": _OLD,
    "probes-init-container-not-native": _OLD,
    "resources-null": Cluster(
        config="values: {proxy: {resources: {requests: {cpu: 50m}, limits: {cpu: null}}}}"
    ),
    "resources-removed": Cluster(config="values: {proxy: {resources: null}, init: {resources: null}}"),
    "resources-zero": Cluster(config="values: {proxy: {resources: {requests: {cpu: 0}}}}"),
    "revision": Cluster(revision="canary"),
    "template-alias": Cluster(config=_TEMPLATES),
    "template-without-proxy": Cluster(config=_TEMPLATES),
    "traffic-values": Cluster(
        config="values: {proxy: {includeOutboundIPRanges: 10.0.0.0/8, excludeInboundPorts: '9091'}}"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    name: str

    @property
    def input(self) -> str:
        return (FOLDER / f"{self.name}.yaml").read_text()

    @property
    def result(self) -> Path:
        return FOLDER / f"{self.name}.injected.yaml"

    @property
    def cluster(self) -> Cluster:
        return _CLUSTERS.get(self.name, Cluster())

    def inject(self, text: str) -> str:
        return self.cluster.injector().inject(text, f"{self.name}.yaml")


FIXTURES: Final = [
    Fixture(name=path.stem) for path in sorted(FOLDER.glob("*.yaml")) if not path.stem.endswith(".injected")
]
