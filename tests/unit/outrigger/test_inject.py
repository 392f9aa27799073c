from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from controlplane.errors import SettingsError
from controlplane.yaml_documents import read_documents
from outrigger.__main__ import app
from outrigger.errors import CommandError
from outrigger.yaml_writer import to_yaml

_SERVICE = """# our licence
apiVersion: v1
kind: Service
metadata: {name: web}   # odd   spacing
spec: {ports: [{port: 0x50}]}
"""
_DEPLOYMENT = """
# the application
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web, build: "1e3"}}
    spec: {containers: [{name: web, image: "example.com/web:1", args: ["y", "a\\nb"]}]}
"""
_NOT_INJECTED = """
apiVersion: v1
kind: Pod
metadata: {name: node-exporter}
spec: {hostNetwork: true, containers: [{name: x}]}
"""


def run(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["inject", "-f", "-", *arguments], input=text, catch_exceptions=False)


def inject(text: str, *arguments: str) -> str:
    result = run(text, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# only a comment",
        "---\n---\n",
        "%YAML 1.1\n---\na: 1\n...\n",
        _SERVICE,
        f"---{_NOT_INJECTED}---\n{_SERVICE}",
        "kind: Deployment\napiVersion: example.com/v1\nspec: {}\n",
        "- kind: Deployment\n",
        "a: |\n  text\n  --- not a marker\n\r\n",
        '--- {"kind": "ConfigMap"}\n--- # empty\n',
        "apiVersion: v1\nkind: List\nitems: [{kind: Service}, 1]\n",
    ],
)
def test_documents_without_injected_workloads_pass_byte_for_byte(text: str) -> None:
    assert inject(text) == text


def test_other_documents_and_comments_stay_around_an_injected_workload() -> None:
    injected = inject(f"{_SERVICE}---{_DEPLOYMENT}---{_NOT_INJECTED}--- # end\n")
    before, deployment, after, end = injected.split("---\n", 2)[0], *injected.split("---", 3)[1:]
    assert before == _SERVICE
    assert deployment.startswith("\n# the application\napiVersion: apps/v1\n")
    assert "outrigger-sidecar" in deployment
    assert (after, end) == (_NOT_INJECTED, " # end\n")


def test_an_injected_workload_keeps_the_types_of_its_values() -> None:
    [document] = read_documents(inject(_DEPLOYMENT))
    template = document.value["spec"]["template"]
    assert template["metadata"]["labels"]["build"] == "1e3"
    assert template["spec"]["containers"][0]["args"] == ["y", "a\nb"]
    assert "generateName" not in template["metadata"]
    assert "ownerReferences" not in template["metadata"]
    assert template["metadata"]["labels"]["service.istio.io/canonical-name"] == "web"


@pytest.mark.parametrize(
    "text", ["y", "1e3", "0o17", "1_000", "12:30", "Null", "1.5", "~", "on", "-", "a: b", ""]
)
def test_a_text_that_some_readers_take_for_another_type_is_quoted(text: str) -> None:
    assert to_yaml({"a": text}).startswith(("a: '", 'a: "'))


def test_the_namespace_of_a_workload_is_its_own_or_the_given_one() -> None:
    assert "sidecar" not in inject(_DEPLOYMENT, "--namespace", "kube-system")
    own = _DEPLOYMENT.replace("{name: web}", "{name: web, namespace: shop}")
    assert "sidecar" in inject(own, "--namespace", "kube-system")


def test_a_workload_that_is_not_injected_is_reported_on_stderr() -> None:
    result = run(_NOT_INJECTED)
    assert "Pod default/node-exporter: not injected: hostNetwork is true" in result.stderr
    result = run(_DEPLOYMENT.replace("spec: {containers", "spec: {dnsPolicy: None, containers"))
    assert "Deployment default/web: dnsPolicy is 'None'" in result.stderr


def test_the_configuration_and_the_mesh_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("values: {hub: registry.example.com, tag: v9}")
    (tmp_path / "mesh").write_text("trustDomain: example.org")
    injected = inject(
        _DEPLOYMENT,
        *("--injection-config", str(tmp_path / "config"), "--mesh-config", str(tmp_path / "mesh")),
        *("--revision", "canary", "--no-native-sidecars"),
    )
    assert "image: registry.example.com/sidecar:v9" in injected
    assert "--trust-domain=example.org" in injected
    assert "--ca-address=outrigger-controlplane-canary.outrigger-system.svc:15012" in injected
    assert "restartPolicy" not in injected


def test_the_output_can_replace_the_input(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(_DEPLOYMENT)
    for _ in range(2):
        result = CliRunner().invoke(app, ["inject", "-f", str(file), "-o", str(file)], catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (0, "")
        assert file.read_text().count("name: outrigger-sidecar") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{_SERVICE}---\na: b: c\n", "-: line 7, column 5: mapping values are not allowed"),
        ("a: 1\n...\nb: 2\n", "-: line 3, column 1: did not find expected <document start>"),
        ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("{apiVersion: apps/v1, kind: Deployment}", "Deployment default/: spec: should be a mapping"),
        (
            "{apiVersion: batch/v1, kind: CronJob, metadata: {name: x}, spec: {jobTemplate: 1}}",
            "CronJob default/x: spec.jobTemplate: should be a mapping",
        ),
        (
            _DEPLOYMENT.replace("[{name: web", "[{nme: web"),
            "Deployment default/web: pod.spec.containers[0].name",
        ),
        (
            _DEPLOYMENT.replace(
                "metadata: {labels", "metadata: {annotations: {inject.istio.io/templates: x}, labels"
            ),
            "Deployment default/web: annotation inject.istio.io/templates: unknown template 'x'",
        ),
    ],
)
def test_an_invalid_document_stops_the_command_without_output(text: str, reason: str) -> None:
    with pytest.raises(CommandError) as failure:
        run(f"{_DEPLOYMENT}---\n{text}" if not text.startswith("#") and "line" not in reason else text)
    assert reason in str(failure.value)


def test_an_invalid_file_stops_the_command(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "config").write_text("policy: x")
    (tmp_path / "mesh").write_text("trustDomain: 1")
    for arguments, error, reason in [
        (["-f", str(tmp_path / "absent")], CommandError, "cannot read"),
        (["-f", str(tmp_path / "binary")], CommandError, "is not UTF-8 text"),
        (
            ["-f", "-", "--injection-config", str(tmp_path / "config")],
            CommandError,
            "policy: 'x' is not one of",
        ),
        (["-f", "-", "--mesh-config", str(tmp_path / "mesh")], SettingsError, "trustDomain"),
        (["-f", "-", "-o", str(tmp_path / "no" / "folder")], CommandError, "cannot write"),
    ]:
        with pytest.raises(error, match=reason):
            CliRunner().invoke(app, ["inject", *arguments], input=_SERVICE, catch_exceptions=False)


def test_a_missing_flag_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["inject"]).exit_code == 2
