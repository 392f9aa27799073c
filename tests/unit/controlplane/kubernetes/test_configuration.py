"""Valid and invalid kubeconfigs, and how long their token is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from controlplane.errors import SettingsError
from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.configuration import TokenRefresh, read_configuration


def kubeconfig(folder: Path, user: dict[str, Any] | None, **cluster: Any) -> Path:
    """Returns a kubeconfig as JSON, which is valid YAML. ``user`` None: the context names no user."""
    context = {"cluster": "it"} | ({} if user is None else {"user": "me"})
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": context}],
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:6443"} | cluster}],
        "users": [{"name": "me", "user": user}],
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(content))
    return file


async def token(configuration: Configuration) -> str:
    settings = await configuration.auth_settings()
    return str(settings["BearerToken"]["value"])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"- a", b"text", b"7", b"contexts: 7"], ids=repr)
async def test_an_invalid_kubeconfig_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"the kubeconfig {file} cannot be used: "):
        await ClientApi.connect(file)


@pytest.mark.parametrize(
    ("user", "cluster", "reason"),
    [
        ({"token": "a"}, {"certificate-authority": "/nonexistent"}, "/nonexistent"),
        ({"token": "a"}, {"certificate-authority-data": "aGVsbG8="}, "no certificate"),
        ({"token": "a"}, {"server": 7}, "'int' object"),
        ({"tokenFile": "/nonexistent"}, {}, "No such file.*/nonexistent"),
        ({"client-certificate-data": 7}, {}, "'int'"),
        (None, {}, "NoneType"),
    ],
)
async def test_an_invalid_context_is_named(
    user: dict[str, Any] | None, cluster: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, user, **cluster)
    with pytest.raises(SettingsError, match=f"the kubeconfig {file} cannot be used: .*{reason}"):
        await ClientApi.connect(file)


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        await ClientApi.connect(tmp_path / "none")


async def test_outside_of_a_pod_the_in_cluster_configuration_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsError, match="the in-cluster configuration cannot be used: "):
        await ClientApi.connect(None)


@pytest.mark.parametrize("kind", ["tokenFile", "exec"])
async def test_an_expiring_token_is_read_again(kind: str, tmp_path: Path) -> None:
    """Once a minute and not for each request: a program issues it, perhaps with a request to a cloud API."""
    source = tmp_path / "token"
    user = {"tokenFile": str(source)} if kind == "tokenFile" else {"exec": program_that_reads(source)}
    source.write_text("first")
    now_s = 1000.0
    configuration = Configuration()
    file = kubeconfig(tmp_path, user)
    loader = await load_kube_config(config_file=str(file), client_configuration=configuration)
    configuration.refresh_api_key_hook = TokenRefresh(loader, clock=lambda: now_s)
    source.write_text("second")
    assert await token(configuration) == "Bearer first"
    now_s += 60
    assert await token(configuration) == "Bearer second"
    source.write_text("third")
    assert await token(configuration) == "Bearer second"


def program_that_reads(source: Path) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "TOKEN"}}
    program = f"print({json.dumps(credential)!r}.replace('TOKEN', open({str(source)!r}).read()))"
    return {"apiVersion": version, "command": sys.executable, "args": ["-c", program]}


async def test_a_kubeconfigs_token_is_kept_fresh(tmp_path: Path) -> None:
    configuration = await read_configuration(kubeconfig(tmp_path, {"token": "a"}))
    assert isinstance(configuration.refresh_api_key_hook, TokenRefresh)
    assert await token(configuration) == "Bearer a"


def two_kubeconfigs(folder: Path) -> tuple[Path, Path]:
    """The second has its own context and cluster, a user of the same name, and a relative path."""
    first = kubeconfig(folder, {"token": "a"})
    second = folder / "more" / "second"
    second.parent.mkdir()
    issued = trustme.CA().cert_pem.bytes()
    (second.parent / "roots.pem").write_bytes(issued)
    document = json.loads(first.read_text())
    document["current-context"] = document["contexts"][0]["name"] = "there"
    document["contexts"][0]["context"]["cluster"] = document["clusters"][0]["name"] = "other"
    document["clusters"][0]["cluster"] = {
        "server": "https://127.0.0.1:7443",
        "certificate-authority": "roots.pem",
    }
    document["users"][0]["user"]["token"] = "b"
    second.write_text(json.dumps(document))
    return first, second


async def test_a_list_of_kubeconfigs_is_merged_as_kubectl_does(tmp_path: Path) -> None:
    first, second = two_kubeconfigs(tmp_path)
    (tmp_path / "empty").touch()
    paths = Path(f"{tmp_path}/missing:{tmp_path}/empty:{first}:{second}:")
    here, there = await read_configuration(paths), await read_configuration(paths, "there")
    assert here.host == "https://127.0.0.1:6443"
    assert (there.host, there.ssl_ca_cert) == ("https://127.0.0.1:7443", str(second.parent / "roots.pem"))
    assert (await token(here), await token(there)) == ("Bearer a", "Bearer a")
    turned = await read_configuration(Path(f"{second}:{first}"))
    assert (turned.host, await token(turned)) == ("https://127.0.0.1:7443", "Bearer b")


async def test_the_current_context_of_a_later_kubeconfig_is_used_if_the_first_has_none(
    tmp_path: Path,
) -> None:
    first, second = two_kubeconfigs(tmp_path)
    first.write_text(first.read_text().replace('"current-context": "here"', '"current-context": ""'))
    assert (await read_configuration(Path(f"{first}:{second}"))).host == "https://127.0.0.1:7443"


async def test_a_list_of_kubeconfigs_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    first, second = two_kubeconfigs(tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be used: .*nowhere"):
        await ClientApi.connect(Path(f"{first}:{second}"), "nowhere")
    with pytest.raises(SettingsError, match=f"No such file.* {tmp_path}/missing:{tmp_path}/missing-too"):
        await ClientApi.connect(Path(f"{tmp_path}/missing:{tmp_path}/missing-too"))
    first.write_text("- a")
    with pytest.raises(SettingsError, match=f"cannot be used: {first} is not a mapping"):
        await ClientApi.connect(Path(f"{first}:{second}"))
